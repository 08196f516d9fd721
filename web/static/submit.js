// A one-time link is used by POST, so that a mail scanner which only fetches it does not spend it.
document.querySelector("form[data-submit]").requestSubmit();
