// One way to call the JSON API. Never throws: an answer is {ok, status, data, sentence}; status 0 means no answer came.

const UNREACHABLE = "The server cannot be reached.";

export async function call(method, url, body, options = {}) {
  try {
    const response = await fetch(url, { method, headers: headers(), body: body && JSON.stringify(body), ...options });
    const data = await response.json().catch(() => null);
    const sentence = response.ok ? "" : sentenceOf(data) ?? `The server answered ${response.status}.`;
    return { ok: response.ok, status: response.status, data, sentence };
  } catch {
    return { ok: false, status: 0, data: null, sentence: UNREACHABLE };
  }
}

// Sent even while the page goes away.
export const farewell = (url) => call("POST", url, null, { keepalive: true });

function headers() {
  const token = document.querySelector("input[name=csrf_token]").value;
  return { "Content-Type": "application/json", "X-CSRF-Token": token };
}

const sentenceOf = (data) => (typeof data?.detail === "string" ? data.detail : undefined);
