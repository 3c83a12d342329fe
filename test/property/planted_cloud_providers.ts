import type { SourceRecord } from '../../model/define_source.ts';

const json = (value: unknown): SourceRecord => ({ form: 'json', value });
const time = '2026-01-01T00:00:00Z';

/**
 * Records of Auth0, Okta, Google Workspace, Cognito and GitHub that carry the text wherever they may give free text, and
 * the secret where their tokens, codes, states and secrets stand. Keys are `<source>:<which>`.
 */
export function plantedInCloudProviders(text: string, c: string): Record<string, SourceRecord> {
  const asked = {
    ...{ client_id: text, state: c, nonce: c, code_challenge: c, login_ticket: c, _csrf: c },
    ...{ redirect_uri: `https://u:${c}@h/cb?code=${c}#access_token=${c}`, scope: text },
    ...{ response_type: 'code', code_challenge_method: text },
  };
  return {
    auth0: json({
      log_id: text,
      data: {
        ...{ type: 'feacft', date: time, description: text, client_id: text, client_name: text },
        ...{ user_id: c, user_name: text, ip: text, user_agent: text, hostname: text, scope: text },
        details: {
          ...{ code: c, session_id: c, refresh_token: { session_id: c }, qs: asked },
          ...{ access_token_jti: c, familyId: c, tokenCounter: 1, credential_id: c },
          error: { message: text, oauthError: text, payload: { attempt: `https://h/?code=${c}` } },
          ...{ requested_scope: text, requested_client_id: text, body: { password: c } },
        },
      },
    }),
    'auth0:management': json({
      log_id: text,
      data: {
        ...{ type: 'sapi', date: time, description: text, user_id: c, client_id: text },
        details: {
          request: {
            ...{ method: 'post', path: '/api/v2/clients', userAgent: text, query: { secret: c } },
            body: { client_secret: c, callbacks: [`https://h/?token=${c}`], name: text },
            auth: { user: { user_id: c, email: c }, credentials: { jti: c } },
          },
          response: { statusCode: 201, body: { client_id: text, client_secret: c, cert: c } },
        },
      },
    }),
    okta: json({
      ...{ uuid: text, published: time, eventType: 'app.oauth2.as.token.grant.access_token' },
      ...{ outcome: { result: 'FAILURE', reason: text }, displayMessage: text },
      actor: { id: text, type: 'PublicClientApp', displayName: text, alternateId: c },
      client: { id: text, ipAddress: text, userAgent: { rawUserAgent: text } },
      authenticationContext: { externalSessionId: c },
      transaction: { id: text },
      debugContext: {
        debugData: {
          ...{ state: c, clientSecret: c, url: `/oauth2/v1/authorize?stateToken=${c}`, dtHash: c },
          ...{ redirectUri: `https://u:${c}@h/cb?code=${c}`, requestedScopes: text },
          ...{ requestUri: `/x?token=${c}`, grantedScopes: text, risk: text, behaviors: text },
          ...{ authorizationServer: text, factor: text, requestId: text, grantType: text },
        },
      },
      target: [
        { id: c, type: 'User', alternateId: text },
        { id: c, type: 'access_token', detailEntry: { hash: c, clientSecret: c } },
      ],
    }),
    google_workspace: json({
      id: { applicationName: 'token', time, uniqueQualifier: text, customerId: text },
      actor: { email: c, profileId: c },
      ipAddress: text,
      events: [
        {
          name: 'authorize',
          parameters: [
            { name: 'client_id', value: text },
            { name: 'app_name', value: text },
            { name: 'scope', multiValue: [text] },
            { name: 'api_name', value: text },
            { name: 'login_failure_type', value: text },
            { name: 'password', value: c },
          ],
        },
      ],
    }),
    cognito: json({
      ...{ eventSource: 'cognito-idp.amazonaws.com', eventName: 'Token_POST', eventTime: time },
      ...{ eventID: text, requestID: text, awsRegion: text, userAgent: text, errorCode: text },
      ...{ errorMessage: text, sourceIPAddress: text, userIdentity: { arn: c, type: 'IAMUser' } },
      additionalEventData: {
        ...{ userPoolId: text, userPoolDomain: text, sub: c, responseParameters: { status: 400 } },
        requestParameters: {
          ...{ grant_type: ['authorization_code'], code: [c], code_verifier: [c], state: [c] },
          ...{ client_id: [text], redirect_uri: [`https://u:${c}@h/?code=${c}`], scope: [text] },
          ...{ refresh_token: [c], client_secret: [c], username: [c] },
        },
      },
    }),
    github: json({
      ...{ action: 'api.request', '@timestamp': time, _document_id: text, org: text, repo: text },
      ...{
        actor: c,
        user: c,
        actor_ip: text,
        user_agent: text,
        hashed_token: c,
        token_scopes: text,
      },
      ...{ url_path: `/x?access_token=${c}`, query_string: `access_token=${c}`, request_id: text },
      ...{ oauth_application_id: text, oauth_application_name: text, request_body: c },
      ...{ programmatic_access_type: text, application_name: text, operation_type: text },
    }),
  };
}
