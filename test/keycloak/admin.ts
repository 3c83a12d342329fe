/** The administrator sits at the server itself: its realm wants HTTPS from everywhere else. */
export const ADMIN_ADDRESS = '127.0.0.1';

/** Keycloak's admin REST API, as its bootstrap administrator. */
export class Admin {
  readonly #url: string;
  /** The tokens of the administrator: secrets like any others. */
  readonly tokens: { readonly access_token: string; readonly refresh_token: string };

  private constructor(url: string, tokens: Admin['tokens']) {
    this.#url = url;
    this.tokens = tokens;
  }

  static async login(url: string, password: string): Promise<Admin> {
    const response = await fetch(`${url}/realms/master/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'password',
        client_id: 'admin-cli',
        username: 'admin',
        password,
      }),
    });
    if (!response.ok) throw new Error(`the administrator was refused: ${response.status}`);
    return new Admin(url, (await response.json()) as Admin['tokens']);
  }

  /** One call below `/admin/realms`; its answer, or undefined where it is empty. Throws unless it succeeds. */
  async call(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`${this.#url}/admin/realms${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.tokens.access_token}`,
        'content-type': 'application/json',
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** The id of the user or client that a search names. */
  async idOf(path: string): Promise<string> {
    const [found] = (await this.call('GET', path)) as { id: string }[];
    if (found === undefined) throw new Error(`nothing at ${path}`);
    return found.id;
  }
}
