/** A form of a page: where it is sent to and what it holds. */
interface Form {
  readonly action: URL;
  readonly fields: ReadonlyMap<string, string>;
}

/** A page, or the place on another origin that the browser was sent to. */
export interface Answer {
  readonly status: number;
  readonly page: string;
  /** Where the page is from. */
  readonly url: URL;
  readonly location?: URL;
}

/** A browser without a window: it keeps cookies, follows redirects on one origin and fills in forms. */
export class Browser {
  readonly #cookies = new Map<string, string>();
  readonly #address: string;

  /** `address`: where it stands, as the proxy before the server tells. */
  constructor(address: string) {
    this.#address = address;
  }

  /** The id of the authentication session, which becomes the id of the user session; its cookie holds more than that. */
  get sessionId(): string {
    const cookie = this.#cookies.get('AUTH_SESSION_ID') ?? '';
    const [id = ''] = Buffer.from(cookie, 'base64url').toString('utf8').split('.');
    return id;
  }

  get cookies(): readonly string[] {
    return [...this.#cookies.values()];
  }

  /** Walks from `start` until it gets a page or is sent to another origin. */
  async open(start: URL, init: RequestInit = {}): Promise<Answer> {
    let url = start;
    let request = init;
    for (let hops = 0; hops < 20; hops += 1) {
      const answer = await this.#fetch(url, request);
      const page = await answer.text();
      const location = answer.headers.get('location');
      if (location === null) return { status: answer.status, page, url };
      const next = new URL(location, url);
      if (next.origin !== start.origin) {
        return { status: answer.status, page: '', url, location: next };
      }
      url = next;
      request = {};
    }
    throw new Error('too many redirects');
  }

  /** Sends the first form of a page with `filled` in its fields; a button is a field as well. */
  submit(answer: Answer, filled: Readonly<Record<string, string>>): Promise<Answer> {
    const form = formOf(answer);
    const body = new URLSearchParams([...new Map([...form.fields, ...Object.entries(filled)])]);
    return this.open(form.action, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: body.toString(),
    });
  }

  async #fetch(url: URL, init: RequestInit): Promise<Response> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const given = init.headers as Record<string, string> | undefined;
    const headers = { ...given, cookie, 'x-forwarded-for': this.#address };
    const answer = await fetch(url, { ...init, redirect: 'manual', headers });
    for (const line of answer.headers.getSetCookie()) {
      const [pair = ''] = line.split(';');
      const at = pair.indexOf('=');
      if (/;\s*Max-Age=0/i.test(line)) this.#cookies.delete(pair.slice(0, at));
      else this.#cookies.set(pair.slice(0, at), pair.slice(at + 1).replace(/^"(.*)"$/, '$1'));
    }
    return answer;
  }
}

function formOf({ page, url }: Answer): Form {
  const form = /<form\b([^>]*)>([\s\S]*?)<\/form>/i.exec(page);
  if (form === null) throw new Error(`no form on the page of ${url.pathname}`);
  const [, attributes = '', inside = ''] = form;
  const fields = new Map<string, string>();
  for (const [, input = ''] of inside.matchAll(/<input\b([^>]*)>/gi)) {
    const name = attribute(input, 'name');
    const type = attribute(input, 'type')?.toLowerCase();
    if (name === undefined || type === 'submit' || type === 'checkbox') continue;
    fields.set(name, attribute(input, 'value') ?? '');
  }
  return { action: new URL(attribute(attributes, 'action') ?? '', url), fields };
}

function attribute(tag: string, name: string): string | undefined {
  const value = new RegExp(`\\b${name}\\s*=\\s*"([^"]*)"`, 'i').exec(tag)?.[1];
  return value
    ?.replaceAll('&amp;', '&')
    .replaceAll('&#x3D;', '=')
    .replaceAll('&#61;', '=')
    .replaceAll('&quot;', '"');
}
