/** Mutants of a rule that no events can tell from the rule in a backtest, and why not. */
export interface Equivalence {
  readonly why: string;
  /** Names, as the program prints them. */
  readonly mutants: readonly string[];
}

const IN_BACKTEST =
  'A backtest takes all events as new, so that another part of the query names the entity or time bounds hold everything. What comes late is the matter of test/property/live_equals_backtest.test.ts.';
const BY_ROTATION =
  'Earlier names exist after a rotation of keys alone: test/property/key_rotation.test.ts.';
const WIDER = 'It names more entities than before, and `evaluate` decides.';
const CONFIDENCE_ALONE =
  'The severity is the same; the confidence alone differs, which examples do not state.';
const SUCCESSES = 'The query of histories reads successes alone.';
const SORTED = 'The engine sorts the events of a finding.';
const WHOLE_MINUTES =
  'Windows, and the pauses between what they show, are counted in whole minutes: a millisecond changes none.';
const NOT_READ = 'The query of histories reads no other rows.';
const ONE_ROW = 'There is one such row for each entity.';

/**
 * By rule. Only what is provably so belongs here: what nobody has found an example for is a survivor. The program fails
 * where a name is no mutant any more, or is killed after all.
 */
export const EQUIVALENT: Readonly<Record<string, readonly Equivalence[]>> = {
  client_new_network: [
    {
      why: IN_BACKTEST,
      mutants: [
        'RECENT_MS: = 600[_000 -> 001]',
        'RECENT_MS: = [600_000 -> (599999)]',
        'BATCH_MS: = DAY_MS / [2 -> 3]',
        'BATCH_MS: = DAY_MS / [2 -> (1)]',
        'candidates: timeTo: scope.timeFrom }, [0 -> 1], BATCH_MS); const recent =',
        'candidates: timeTo: scope.timeFrom }, [0 -> (-1)], BATCH_MS); const recent =',
        'candidates: - 1n }, RECENT_MS, [0 -> 1])} AND client_id IN',
        'candidates: - 1n }, RECENT_MS, [0 -> (-1)])} AND client_id IN',
        'candidates: AND ${aroundNew(scope, [0 -> 1], params.baseline_ms +',
        'candidates: AND ${aroundNew(scope, [0 -> (-1)], params.baseline_ms +',
      ],
    },
    {
      why: 'Of two first uses at one moment either tells the same time.',
      mutants: ['earliest: => (a === undefined || b.at <[ -> =] a.at ? b : a),'],
    },
    {
      why: 'Where there is any network there is a first one.',
      mutants: [
        'evaluate: .filter((f) => [!isOld(f) && first !== undefined -> (!isOld(f))]) .filter((f) =>',
      ],
    },
  ],
  code_injection: [
    {
      why: IN_BACKTEST,
      mutants: [
        'Parameters: 000).max(86_400_000).default(3[_600_000 -> 600001]), /** Further error codes',
        'Parameters: _000).max(86_400_000).default([3_600_000 -> (3599999)]), /** Further error codes',
      ],
    },
    {
      why: WIDER,
      mutants: [
        "candidates: ${column} [! -> ]= '') != maxIf(${column},",
        "candidates: maxIf(${column}, ${column} [! -> ]= '')`; return sql`",
      ],
    },
  ],
  code_redeemed_twice: [
    {
      why: WIDER,
      mutants: [
        "candidates: ( minIf(event_id, kind [ -> !]= 'code_redeemed') !=",
        "candidates: != maxIf(event_id, kind [ -> !]= 'code_redeemed') OR",
        "candidates: OR minIf(event_id, kind [! -> ]= 'code_redeemed') !=",
        "candidates: != maxIf(event_id, kind [! -> ]= 'code_redeemed'))`;",
      ],
    },
  ],
  device_code_phishing: [
    {
      why: IN_BACKTEST,
      mutants: [
        'Parameters: (60_000).max(DAY_MS).default(3[_600_000 -> 600001]), /** Clients whose',
        'Parameters: n(60_000).max(DAY_MS).default([3_600_000 -> (3599999)]), /** Clients whose',
        'CODE_ROWS: AND t_type [ -> !]=',
        "explainedCodes: = 'device_code' AND time >[= -> ] ${timeOf(scope.timeFrom)}",
        'explainedCodes: AND time <[= -> ] ${knownSince} +',
        "explainedCodes: AND ${APPROVALS} AND t_type [ -> !]= 'device_code' AND time >=",
        'explainedCodes: ${fresh}) [OR -> AND] subject_ref IN (',
        'explainedCodes: ${fresh})) [OR -> AND] ((SELECT minOrNull(time)',
      ],
    },
    {
      why: WIDER,
      mutants: [
        "touchedCodes: net_network [! -> ]= '') != maxIf(net_network,",
        "touchedCodes: net_network [! -> ]= '')`;",
      ],
    },
    {
      why: BY_ROTATION,
      mutants: [
        "explainedCodes: = ${tenant} AND relation [ -> !]= 'previous' AND other IN",
        "history: = ${tenant} AND relation [ -> !]= 'previous') AS names",
      ],
    },
    {
      why: CONFIDENCE_ALONE,
      mutants: [
        "gradeOf: confidence: 40 }; if ([home === '' || countries.length === 0 -> (home === '')]) return { severity: 'high'",
        "gradeOf: confidence: 40 }; if ([home === '' || countries.length === 0 -> (countries.length === 0)]) return { severity: 'high'",
        "gradeOf: '' || countries.length === [0 -> (-1)]) return { severity: 'high'",
      ],
    },
    {
      why: 'Beside the events of the code itself, the query of histories reads successful approvals alone.',
      mutants: [
        'earlierApprovals: => { if ([!isApproval(e) || e.time >= approval.time -> (e.time >= approval.time)] || isOfCode(e, input.entity,',
      ],
    },
    {
      why: 'Other approvals are read up to the moment of this one alone, and those of this code are not before its first.',
      mutants: [
        'earlierApprovals: => { if ([!isApproval(e) || e.time >= approval.time -> (!isApproval(e))] || isOfCode(e, input.entity,',
        'earlierApprovals: => { if ([!isApproval(e) || e.time >= approval.time || isOfCode(e, input.entity, ROLES -> (!isApproval(e) || e.time >= approval.time])) r...',
        'earlierApprovals: => { if ([!isApproval(e) || e.time >= approval.time || isOfCode(e, input.entity, ROLES -> (isOfCode(e, input.entity, ROLES)])) return fal...',
        'earlierApprovals: (!isApproval(e) || e.time >[= -> ] approval.time || isOfCode(e,',
      ],
    },
    {
      why: 'An unknown place is apart from no other.',
      mutants: [
        "evaluate: userPlaces(ofDevice); if ([home === '' || !areApart([home], places -> (!areApart([home], places)])) return []; if",
      ],
    },
  ],
  elevation_outlives_window: [
    {
      why: 'Of two equal expiries either is the same.',
      mutants: ['windowOf: b) => (a === undefined || b >[ -> =] a ? b : a), undefined,'],
    },
    {
      why: 'At the moment of its beginning an elevation lasts, so that no use at that moment is late.',
      mutants: [
        'evaluate: windows.some((w) => w.start <[ -> =] e.time) &&',
        'evaluate: => w.start <[ -> =] first.time); const granted',
        'evaluate: => g.time <[ -> =] first.time); if (window',
      ],
    },
    {
      why: SUCCESSES,
      mutants: [
        "elevationOf: (e) => [ISSUES.some((k) => k === e.kind) && e.outcome === 'success' -> (ISSUES.some((k) => k === e.kind))] && e.time >=",
      ],
    },
    {
      why: IN_BACKTEST,
      mutants: ["elevatedGrants: AND kind [ -> !]= 'elevation_granted' AND"],
    },
  ],
  pkce_missing_or_downgraded: [
    {
      why: IN_BACKTEST,
      mutants: [
        "REGISTRATION_KINDS: without 'client_registered'",
        "REGISTRATION_KINDS: without 'client_updated'",
        'candidates: AND ${aroundNew(scope, [0 -> 1], params.baseline_ms +',
        'candidates: AND ${aroundNew(scope, [0 -> (-1)], params.baseline_ms +',
      ],
    },
    {
      why: ONE_ROW,
      mutants: ['evaluate: first = input.facts.find[ -> Last]((f) => f.name ==='],
    },
  ],
  refresh_many_networks: [
    {
      why: 'Asked only where a client is listed, or finding nothing where none is.',
      mutants: [
        'offListRows: }); if (parts.length === [0 -> (-1)]) return sql`false`; return',
        'candidates: === [0 -> (-1)]) return changed; return',
        'history: if (listed.length === [0 -> (-1)]) return runs; return',
      ],
    },
  ],
  scope_beyond_registration: [
    {
      why: SUCCESSES,
      mutants: [
        "excessOf: event.time).scopes; if ([registered === undefined || event.outcome !== 'success' -> (registered === undefined)]) return []; return",
      ],
    },
  ],
  scope_growth_on_exchange: [
    {
      why: SUCCESSES,
      mutants: [
        "isExchangeOf: boolean { return ( [event.kind === 'token_exchanged' && event.outcome === 'success' -> (event.kind === 'token_exchanged')] &&",
        "evaluate: (e) => [e.outcome === 'success' && mentionOf(e, entity, ['issued']) !== undefined -> (mentionOf(e, entity, ['issued']) !== undefined)], )...",
      ],
    },
    {
      why: 'The query of histories reads a token as subject in successful exchanges alone.',
      mutants: [
        "isExchangeOf: boolean { return ( [event.kind === 'token_exchanged' && event.outcome === 'success' -> (event.outcome === 'success')] &&",
        "isExchangeOf: boolean { return ( [event.kind === 'token_exchanged' && event.outcome === 'success' && !params.exclude_clients.includes(event.client.id -... (2)",
      ],
    },
    {
      why: 'The exchange that made the token is told with its own scopes and audience, which are part of what it is compared with.',
      mutants: [
        "isExchangeOf: boolean { return ( [event.kind === 'token_exchanged' && event.outcome === 'success' && !params.exclude_clients.includes(event.client.id) ...",
      ],
    },
    {
      why: IN_BACKTEST,
      mutants: [
        'candidates: ref != ${nilRef} AND time >[= -> ] ${since})`;',
        "candidates: tenant = ${tenant} AND kind [ -> !]= 'token_exchanged' AND",
        "candidates: AND outcome [ -> !]= 'success' AND role =",
        "candidates: outcome = 'success' AND role [ -> !]= 'subject' AND ref !=",
        "candidates: AND outcome [ -> !]= 'success' AND role = (2)",
        "candidates: outcome = 'success' AND role [ -> !]= 'issued' AND",
        "candidates: tenant = ${tenant} AND kind [ -> !]= 'token_exchanged' AND (2)",
        "candidates: AND outcome [ -> !]= 'success' AND role = (3)",
        "candidates: outcome = 'success' AND role [ -> !]= 'subject' AND ref",
      ],
    },
  ],
  scope_growth_on_refresh: [
    {
      why: SUCCESSES,
      mutants: [
        "growths: of input.events) { if ([event.outcome !== 'success' || input.params.exclude_clients.includes(event.client.id -> (input.params.exclude_cli...",
      ],
    },
    {
      why: BY_ROTATION,
      mutants: [
        "candidates: = ${tenant} AND relation [ -> !]= 'previous' AND ref IN",
        "candidates: ${kindIn(KINDS)} AND outcome [ -> !]= 'success' AND",
      ],
    },
    {
      why: 'What grew has an issue or consent as well as a refresh, so that counting either names it.',
      mutants: ["candidates: BY ref HAVING countIf(k [ -> !]= 'token_refreshed') > 0 AND"],
    },
  ],
  scope_used_beyond_token: [
    {
      why: 'The query of histories reads successes that name scopes alone.',
      mutants: [
        "lackedBy: the token could do. if ([event.outcome !== 'success' || event.scopes_granted.length === 0 -> (event.outcome !== 'success')]) return []; c...",
        "lackedBy: the token could do. if ([event.outcome !== 'success' || event.scopes_granted.length === 0 -> (event.scopes_granted.length === 0)]) return...",
        'lackedBy: === [0 -> (-1)]) return []; const needed =',
      ],
    },
  ],
  stale_client: [
    {
      why: IN_BACKTEST,
      mutants: [
        'candidates: WHERE ${tenant} AND time >[= -> ] toStartOfDay(${newest})',
        "candidates: AND state [! -> ]= 'superseded') UNION ALL",
        'candidates: 1)) = 0 AND entity [NOT -> ]IN ( SELECT',
        'candidates: - [1 -> 2])}) UNION ALL SELECT',
        'candidates: - [1 -> (0)])}) UNION ALL SELECT',
        'candidates: - [1 -> 2])})) WHERE ( SELECT',
        'candidates: - [1 -> (0)])})) WHERE ( SELECT',
      ],
    },
    {
      why: ONE_ROW,
      mutants: ['evaluate: const newest = facts.find[ -> Last]((f) => f.name ==='],
    },
    {
      why: 'The query of histories reads one use for each name, the newest, and a second name exists after a rotation of keys alone.',
      mutants: ['evaluate: const lastUse = events.find[Last -> ]((e) => !isAbout(e,'],
    },
  ],
  token_across_tenants: [
    {
      why: IN_BACKTEST,
      mutants: [
        'Parameters: 000).max(86_400_000).default(3[_600_000 -> 600001]), /** Clients whose tokens',
        'Parameters: _000).max(86_400_000).default([3_600_000 -> (3599999)]), /** Clients whose tokens',
      ],
    },
    {
      why: SORTED,
      mutants: [
        'evaluate: b) => [a.time < b.time -> !(a.time < b.time)] ? -1 : 1, ); const',
        'evaluate: b) => a.time <[ -> =] b.time ? -1 : 1, );',
        'evaluate: b) => a.time [< -> >=] b.time ? -1 : 1, );',
      ],
    },
    {
      why: WIDER,
      mutants: [
        "NAMES_URI: = trimRight(lower(r), '/') [OR -> AND]",
        "NAMES_URI: '/'), '/')) [OR -> AND]",
        "candidates: source_tenant [! -> ]= '') != maxIf(source_tenant,",
        "candidates: source_tenant [! -> ]= '')`;",
      ],
    },
    {
      why: 'The query of histories reads successes that present the token alone.',
      mutants: [
        "accepted: (e) => [e.outcome === 'success' && mentionOf(e, input.entity, ['presented']) !== undefined -> (e.outcome === 'success')] &&",
        "accepted: (e) => [e.outcome === 'success' && mentionOf(e, input.entity, ['presented']) !== undefined -> (mentionOf(e, input.entity, ['presented']) ...",
        "accepted: (e) => [e.outcome === 'success' && mentionOf(e, input.entity, ['presented']) !== undefined && !input.params.exclude_clients.includes(e.cl... (2)",
      ],
    },
    {
      why: 'Where two tenants are told there are two events or more.',
      mutants: ["evaluate: Verdict = ofTenants.length > [0 -> 1] ? 'two_tenants' :"],
    },
  ],
  token_in_url: [
    {
      why: 'An episode has at least one call.',
      mutants: ['Parameters: t().min(1).max(1_000).default([1 -> (0)]), /** Routes whose tokens'],
    },
  ],
  token_used_after_revocation: [
    {
      why: BY_ROTATION,
      mutants: ["candidates: = ${tenant} AND relation [ -> !]= 'previous' ) AS names"],
    },
  ],
  unexpected_scope_grant: [
    {
      why: 'The query of histories reads successes that name requested scopes alone.',
      mutants: [
        "excessOf: 6749 section 3.3). if ([event.outcome !== 'success' || asked.length === 0 -> (event.outcome !== 'success')]) return []; if",
        "excessOf: 6749 section 3.3). if ([event.outcome !== 'success' || asked.length === 0 -> (asked.length === 0)]) return []; if",
        'excessOf: || asked.length === [0 -> (-1)]) return []; if',
      ],
    },
  ],
  binding_mismatch: [
    {
      why: IN_BACKTEST,
      mutants: [
        'LATE_MS: = 600[_000 -> 001]',
        'LATE_MS: = [600_000 -> (599999)]',
        'Parameters: .max(2_592_000_000).default(86[_400_000 -> 400001]), exclude_clients:',
        'Parameters: 0).max(2_592_000_000).default([86_400_000 -> (86399999)]), exclude_clients:',
        'timeBounds: life)} AND time >[= -> ] if(${kindIn(ISSUING)},',
        'timeBounds: return sql`time <[= -> ] ${afterNews(scope, life)}',
      ],
    },
    {
      why: WIDER,
      mutants: [
        "candidates: HAVING minIf(${key}, ${key} [! -> ]= '') != maxIf(${key}, ${key}",
        "candidates: '') != maxIf(${key}, ${key} [! -> ]= '') OR (max(${key})",
      ],
    },
    {
      why: NOT_READ,
      mutants: [
        "verdictOf: return undefined; if ([event.binding === 'none' && isKind(event, AS_KINDS -> (event.binding === 'none'])) return 'bearer'; if",
        "verdictOf: return 'bearer'; if ([event.binding_thumbprint === '' || event.binding_thumbprint === issue.binding_thumbprint -> (event.binding_thumbpri... (2)",
      ],
    },
  ],
  clock_skew: [
    {
      why: WHOLE_MINUTES,
      mutants: [
        'Parameters: 0_000).max(3_600_000).default([300_000 -> (299999)]), /** Tokens refused for',
        'Parameters: 000).max(86_400_000).default(1[_800_000 -> 800001]), /** Codes of',
        'Parameters: 0).max(604_800_000).default(86[_400_000 -> 400001]), /** How long a host must',
        'Parameters: n(0).max(604_800_000).default([3_600_000 -> (3599999)]), /** So many callers with',
      ],
    },
    { why: ONE_ROW, mutants: ['crossings: const heard = Math.m[in -> ax](...seriesOf(facts,'] },
    {
      why: 'What is counted is more than nothing.',
      mutants: ['crossings: * (baseline ?? [0 -> (-1)])) found.set(minute, {'],
    },
  ],
  dpop_proof_replay: [
    {
      why: WIDER,
      mutants: [
        "candidates: OR minIf(event_id, kind [ -> !]= 'token_validated') !=",
        "candidates: != maxIf(event_id, kind [ -> !]= 'token_validated') OR",
      ],
    },
    {
      why: 'It is how much evidence shows at most.',
      mutants: [
        'evaluate: REQUESTS_LISTED_MAX - [1 -> 2]) .map((r) =>',
        'evaluate: REQUESTS_LISTED_MAX - [1 -> (0)]) .map((r) =>',
      ],
    },
  ],
  first_privileged_scope: [
    {
      why: 'It is how much is read at most.',
      mutants: [
        'history: event_id LIMIT ${param.uint([2 -> 3] * PAIRS_MAX)} BY entity`;',
        'history: event_id LIMIT ${param.uint([2 -> (1)] * PAIRS_MAX)} BY entity`;',
      ],
    },
    {
      why: 'It is what is told where none of the others holds.',
      mutants: ["GRAVEST_FIRST: without 'new_client'"],
    },
  ],
  introspection_outage: [
    {
      why: WHOLE_MINUTES,
      mutants: [
        'Parameters: 0_000).max(3_600_000).default([300_000 -> (299999)]), /** Share of failed',
        'Parameters: 000).max(86_400_000).default(1[_800_000 -> 800001]), /** Codes of',
        'toSignal: / 60[_000 -> 001]) + 1; const names = (name:',
      ],
    },
  ],
  redirect_lookalike: [
    {
      why: 'An empty host is like no other.',
      mutants: [
        "hostTricks: Params): Trick[] { if ([host === '' || isIpLiteral(host -> (isIpLiteral(host)]) || isLoopbackHost(host))",
      ],
    },
    {
      why: 'An empty URI has no parts.',
      mutants: [
        "tricksOf: = event.redirect_uri; if ([uri === '' || !isUnregistered(event, clients -> (!isUnregistered(event, clients)])) return []; if",
      ],
    },
    {
      why: 'Two domains of no distance read alike, which is told before.',
      mutants: ['distanceLimit: < NAME_LENGTH_MIN) return [0 -> (-1)]; return name.length <'],
    },
  ],
  redirect_uri_risky: [
    {
      why: NOT_READ,
      mutants: [
        "counts: === 'success'; return [event.outcome !== 'failure' && event.outcome !== 'denied' -> (event.outcome !== 'failure')];",
        "counts: === 'success'; return [event.outcome !== 'failure' && event.outcome !== 'denied' -> (event.outcome !== 'denied')];",
        'evaluate: (e) => [counts(e) && risksOf(e, params).length > 0 -> (risksOf(e, params).length > 0)], ); return',
      ],
    },
    {
      why: 'An empty URI has no traits.',
      mutants: [
        "traitsOf: Params): Trait[] { if ([uri === '' || params.allowed_patterns.some((p) => matchesPattern(uri, p -> (params.allowed_patterns.some((p) => m...",
      ],
    },
  ],
  session_on_two_devices: [
    {
      why: IN_BACKTEST,
      mutants: [
        'Parameters: .max(2_592_000_000).default(86[_400_000 -> 400001]), exclude_clients:',
        'Parameters: 0).max(2_592_000_000).default([86_400_000 -> (86399999)]), exclude_clients:',
      ],
    },
    {
      why: WIDER,
      mutants: [
        "candidates: net_ua_family [! -> ]= '') != maxIf(net_ua_family,",
        "candidates: net_ua_family [! -> ]= '') OR minIf(system,",
        "candidates: OR minIf(system, system [! -> ]= '') != maxIf(system, system",
        "candidates: '') != maxIf(system, system [! -> ]= ''))`;",
      ],
    },
    {
      why: NOT_READ,
      mutants: [
        "isTelling: return false; return [tellsUserNetwork(event) && event.net.user_agent + event.net.ua_family !== '' -> (tellsUserNetwork(event))];",
      ],
    },
    {
      why: 'Two browsers are another device already; what is said of the system beside changes the confidence alone.',
      mutants: [
        "isOneSystem: true; const isOneBrowser = [a.browser !== '' && a.browser === b.browser -> (a.browser !== '')]; return ( isOneBrowser",
      ],
    },
  ],
  token_endpoint_storm: [
    {
      why: WHOLE_MINUTES,
      mutants: [
        'Parameters: 0_000).max(3_600_000).default([300_000 -> (299999)]), /** Share of the token',
        'Parameters: 000).max(86_400_000).default(1[_800_000 -> 800001]), /** How the route of a',
        'toSignal: / 60[_000 -> 001]) + 1; const all =',
      ],
    },
  ],
  validation_fail_open: [
    {
      why: WHOLE_MINUTES,
      mutants: [
        'Parameters: 0_000).max(3_600_000).default([300_000 -> (299999)]), /** Calls within the',
        'Parameters: 000).max(86_400_000).default(1[_800_000 -> 800001]), /** Codes of',
        'toSignal: / 60[_000 -> 001]) + 1; const names = (what:',
      ],
    },
  ],
};
