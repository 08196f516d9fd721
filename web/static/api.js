// One way to call the JSON API. Never throws: an answer is {ok, status, code, data, sentence}; status 0 means none came in time.

const UNREACHABLE = "The server cannot be reached.";
const PATIENCE = 15_000;

export async function call(method, url, body, options = {}) {
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const response = await fetch(url, { method, headers: headers(), body: body && JSON.stringify(body), signal, ...options });
    const data = await response.json().catch(() => null);
    const sentence = response.ok ? "" : sentenceOf(data) ?? `The server answered ${response.status}.`;
    return { ok: response.ok, status: response.status, code: data?.error ?? "", data, sentence };
  } catch {
    return { ok: false, status: 0, code: "", data: null, sentence: UNREACHABLE };
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

const sentenceOf = (data) => (typeof data?.detail === "string" ? data.detail : undefined);
