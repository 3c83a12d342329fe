import type { SecretLedger } from './secret_ledger.ts';
import type { Vantage } from './population.ts';

/** Redirects and pages of one navigation; a loop ends here. */
const STEPS_MAX = 20;

/** What the person does with the forms of the authorization server. */
export interface Intentions {
  readonly username: string;
  readonly password: string;
  /** Typed before the right one. */
  readonly wrongPasswords?: readonly string[];
  readonly consent: 'allow' | 'cancel';
}

export type Arrival =
  /** The server sent the browser away to this address, which is the client's. */
  | { readonly at: 'client'; readonly url: URL }
  /** The server showed its last page: a device was connected, or an error. */
  | { readonly at: 'server'; readonly status: number; readonly page: string };

interface Cookie {
  readonly name: string;
  readonly value: string;
  readonly path: string;
}

export interface Browser {
  /** Where the person is now; may change between two steps. */
  vantage: Vantage;
  /** Opens an address of the authorization server and fills in its forms until it is done. */
  navigate(url: URL, person: Intentions): Promise<Arrival>;
}

/**
 * A browser reduced to what a sign-in needs: cookies by path, redirects, and HTML forms. It talks to one
 * origin only; a redirect to any other is handed back, so that nothing leaves loopback.
 */
export function createBrowser(issuer: URL, vantage: Vantage, ledger: SecretLedger): Browser {
  const jar = new Map<string, Cookie>();
  const browser: Browser = {
    vantage,
    async navigate(url, person) {
      const wrong = [...(person.wrongPasswords ?? [])];
      let request: { url: URL; form?: URLSearchParams } = { url };
      for (let step = 0; step < STEPS_MAX; step += 1) {
        if (request.url.origin !== issuer.origin) return { at: 'client', url: request.url };
        const response = await send(jar, browser.vantage, ledger, request);
        const location = response.headers.get('location');
        const page = await response.text();
        if (response.status >= 300 && response.status < 400 && location !== null) {
          request = { url: new URL(location, request.url) };
          continue;
        }
        const form = readForm(page);
        if (form === undefined || response.status >= 400) {
          return { at: 'server', status: response.status, page };
        }
        ledger.add('cookie', form.fields.get('xsrf') ?? undefined);
        request = {
          url: new URL(form.action, request.url),
          form: fillIn(form, person, () => wrong.shift()),
        };
      }
      throw new Error(`browser: more than ${STEPS_MAX} steps at ${issuer.origin}`);
    },
  };
  return browser;
}

async function send(
  jar: Map<string, Cookie>,
  vantage: Vantage,
  ledger: SecretLedger,
  request: { url: URL; form?: URLSearchParams },
): Promise<Response> {
  const cookies = [...jar.values()].filter((cookie) => isUnder(request.url.pathname, cookie.path));
  const response = await fetch(request.url, {
    method: request.form === undefined ? 'GET' : 'POST',
    redirect: 'manual',
    headers: {
      'user-agent': vantage.userAgent,
      'x-forwarded-for': vantage.ip,
      ...(cookies.length > 0
        ? { cookie: cookies.map((cookie) => `${cookie.name}=${cookie.value}`).join('; ') }
        : {}),
    },
    ...(request.form === undefined ? {} : { body: request.form }),
  });
  for (const header of response.headers.getSetCookie()) store(jar, ledger, header);
  return response;
}

/** RFC 6265 section 5.1.4. */
function isUnder(path: string, cookiePath: string): boolean {
  return path === cookiePath || cookiePath === '/' || path.startsWith(`${cookiePath}/`);
}

function store(jar: Map<string, Cookie>, ledger: SecretLedger, header: string): void {
  const [pair = '', ...attributes] = header.split(';').map((part) => part.trim());
  const name = pair.slice(0, pair.indexOf('='));
  const value = pair.slice(pair.indexOf('=') + 1);
  const attribute = (wanted: string): string | undefined =>
    attributes
      .find((text) => text.toLowerCase().startsWith(`${wanted}=`))
      ?.slice(wanted.length + 1);
  const path = attribute('path') ?? '/';
  const expires = attribute('expires');
  if (value === '' || (expires !== undefined && Date.parse(expires) <= Date.now())) {
    jar.delete(`${name} ${path}`);
    return;
  }
  ledger.add('cookie', value);
  jar.set(`${name} ${path}`, { name, value, path });
}

interface Form {
  readonly action: string;
  readonly fields: URLSearchParams;
}

function readForm(page: string): Form | undefined {
  const action = /<form[^>]*\saction="([^"]*)"/.exec(page)?.[1];
  if (action === undefined) return undefined;
  const fields = new URLSearchParams();
  for (const [input] of page.matchAll(/<input[^>]*>/g)) {
    const name = /\sname="([^"]*)"/.exec(input)?.[1];
    if (name !== undefined)
      fields.set(name, unescapeHtml(/\svalue="([^"]*)"/.exec(input)?.[1] ?? ''));
  }
  return { action: unescapeHtml(action), fields };
}

function fillIn(
  form: Form,
  person: Intentions,
  nextWrongPassword: () => string | undefined,
): URLSearchParams {
  const filled = new URLSearchParams(form.fields);
  if (filled.has('username')) {
    filled.set('username', person.username);
    filled.set('password', nextWrongPassword() ?? person.password);
  }
  if (filled.has('decision')) filled.set('decision', person.consent);
  return filled;
}

function unescapeHtml(text: string): string {
  return text
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
}
