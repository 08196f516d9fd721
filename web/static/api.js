// One way to call the JSON API. Never throws: an answer is {ok, status, code, data, sentence}; status 0 means none came in time.

const NO_ANSWER = { ok: false, status: 0, code: "", data: null, sentence: "The server cannot be reached." };
const PATIENCE = 15_000;

export async function call(method, url, body, options = {}) {
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const response = await fetch(url, { method, headers: headers(), body: body && JSON.stringify(body), signal, ...options });
    const text = await response.text();
    const data = parsed(text);
    // What is not ours is no answer, such as the sign-in page of a hotel's network.
    if (response.ok && text && !data) return NO_ANSWER;
    const sentence = response.ok ? "" : sentenceOf(data) ?? `The server answered ${response.status}.`;
    return { ok: response.ok, status: response.status, code: data?.error ?? "", data, sentence };
  } catch {
    return NO_ANSWER;
  }
}

// Nothing is wrong with what was sent: this page speaks for a session that is over, and a reload mends it.
export const isOutdated = ({ status, code }) => status === 401 || code === "stale_form";

// Sent even while the page goes away.
export const farewell = (url) => call("POST", url, null, { keepalive: true });

function headers() {
  const token = document.querySelector("input[name=csrf_token]").value;
  return { "Content-Type": "application/json", "X-CSRF-Token": token };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const sentenceOf = (data) => (typeof data?.detail === "string" ? data.detail : undefined);
