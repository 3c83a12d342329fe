import type { SourceRecord } from '../../model/define_source.ts';

/**
 * Records of identity providers with the planted text wherever they may hold free text, and the canary where tokens,
 * cookies and query parameters go. Keys are `<source>:<which>`.
 */
export function plantedInIdentityProviders(text: string, c: string): Record<string, SourceRecord> {
  const time = '2026-01-01T00:00:00Z';
  const flat = text.replaceAll('\n', ' ');
  const quoted = flat.replaceAll('"', "'");
  const url = `https://u:${c}@h/cb?code=${c}&state=${c}#access_token=${c}`;
  const json = (value: unknown): SourceRecord => ({ form: 'json', value });
  const line = (value: string): SourceRecord => ({ form: 'text', line: value });
  return {
    'entra:sign_in': json({
      ...{ time, category: 'SignInLogs', operationName: text, resultDescription: text },
      properties: {
        ...{
          id: text,
          userId: c,
          appId: text,
          appDisplayName: text,
          userAgent: text,
          ipAddress: c,
        },
        ...{ status: { errorCode: 50126, failureReason: text }, sessionId: c, resourceId: text },
        ...{ uniqueTokenIdentifier: c, clientAppUsed: text, resourceDisplayName: text },
        authenticationDetails: [{ authenticationMethod: text, succeeded: true }],
        authenticationProcessingDetails: [
          { key: 'Oauth Scope Info', value: JSON.stringify([text]) },
        ],
        appliedConditionalAccessPolicies: [{ displayName: text, result: 'failure' }],
      },
    }),
    'entra:audit': json({
      ...{ activityDateTime: time, activityDisplayName: 'Update application', result: 'failure' },
      ...{ resultReason: text, id: text, initiatedBy: { user: { id: c, ipAddress: text } } },
      targetResources: [
        {
          ...{ type: 'Application', id: text, displayName: text },
          modifiedProperties: [
            { displayName: 'AppAddress', newValue: JSON.stringify([{ Address: url }]) },
            { displayName: 'KeyDescription', newValue: text, oldValue: text },
          ],
        },
      ],
      additionalDetails: [{ key: 'User-Agent', value: text }],
    }),
    'entra:graph': json({
      ...{ time, category: 'MicrosoftGraphActivityLogs', operationName: 'x' },
      properties: {
        ...{ requestUri: `https://h/v1.0/x?access_token=${c}`, userAgent: text, scopes: text },
        ...{ signInActivityId: c, requestId: text, userId: c, ipAddress: text, appId: text },
      },
    }),
    'entra:unified': json({
      ...{ CreationTime: time, Operation: 'FileDownloaded', Workload: text, UserId: c, Id: text },
      ...{ ObjectId: url, UserAgent: text },
      AppAccessContext: { UniqueTokenId: c, AADSessionId: c, ClientAppName: text },
    }),
    'forgerock:access': json({
      ...{
        eventName: 'AM-ACCESS-OUTCOME',
        timestamp: time,
        component: 'OAuth',
        _id: text,
        realm: text,
      },
      ...{ userId: `id=${c},ou=user`, trackingIds: [c], transactionId: text },
      http: {
        request: {
          ...{ method: text, path: `https://h/am/oauth2/authorize?code=${c}` },
          ...{ cookies: { iPlanetDirectoryPro: c } },
          headers: { 'user-agent': [text], authorization: [`Bearer ${c}`], cookie: [c] },
          queryParameters: { redirect_uri: [url], state: [c], client_id: [text], scope: [text] },
        },
      },
      request: { detail: { grant_type: text, code: c, client_secret: c, refresh_token: c } },
      response: { status: 'FAILED', detail: { error: text, reason: text, access_token: c } },
    }),
    'ping_federate:pairs': line(
      `2026-01-01 00:00:00,000 trackingid="tid:${c}" event="OAuth" subject="${c}" ip="${c}" app="${url}" connectionid="shop" status="failure" description="${quoted}" attributes="a=${quoted}" granttype="${quoted}"`,
    ),
    'ping_federate:cef': line(
      `CEF:0|Ping Identity|PingFederate|1|SSO|SSO|0|rt=Jan 01 2026 00:00:00.000 duid=${c} msg=failure cs1=${url} cs6=${quoted}`,
    ),
    'hydra:json': json({
      ...{
        time,
        msg: 'completed handling request',
        error: { message: text, reason: text, debug: c },
      },
      http_request: {
        ...{ method: 'GET', path: '/oauth2/auth', host: text, remote: text },
        query: `code=${c}&state=${c}&redirect_uri=${encodeURIComponent(url)}&scope=a`,
        headers: { 'user-agent': text, cookie: c, authorization: `Bearer ${c}` },
      },
      http_response: { status: 400, headers: { location: url, 'set-cookie': c } },
    }),
    'hydra:text': line(
      `time=${time} level=error msg=An error occurred error=map[debug:${c} message:invalid_grant reason:${quoted} status_code:400] http_request=map[headers:map[authorization:Bearer ${c} cookie:${c} user-agent:${quoted}] host:h method:POST path:/oauth2/token query:code=${c}&state=${c} remote:203.0.113.9:1 scheme:https]`,
    ),
    'spring_authorization_server:span': json({
      ...{ name: text, time, traceId: text, spanId: text, status: { message: text } },
      attributes: {
        ...{ 'authentication.request.type': 'OAuth2RefreshTokenAuthenticationToken', error: text },
        ...{ 'authentication.failure.type': text, 'oauth.redirect_uri': url, 'http.url': url },
        ...{ 'oauth.client_id': text, 'oauth.scopes_granted': text, 'request.header.cookie': c },
      },
    }),
    'spring_authorization_server:request': json({
      ...{ name: text, time },
      attributes: {
        method: text,
        'http.url': `/oauth2/token?code=${c}`,
        status: '400',
        exception: text,
      },
    }),
    'github_actions_oidc:seen': json({
      ...{
        time,
        id: text,
        outcome: 'rejected',
        error: { code: text, message: text },
        resource: url,
      },
      ...{ authorization: `Bearer ${c}`, request: { ip: c, user_agent: text, id: text } },
      claims: {
        ...{ iss: 'https://token.actions.githubusercontent.com', sub: c, jti: c, aud: [text] },
        ...{
          repository: text,
          workflow: text,
          ref: text,
          environment: text,
          actor: c,
          run_id: text,
        },
      },
      header: { kid: text, alg: text },
    }),
  };
}
