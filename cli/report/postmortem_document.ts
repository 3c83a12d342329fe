import type { Postmortem, TimelineEntry } from '../../model/postmortem.ts';
import { data, heading, list, paragraph, table, type Block, type Cell } from './document.ts';
import { duration, durationText, moment, momentText, percent } from './report_document.ts';

const NAMES_LISTED_MAX = 20;

function names(of: { readonly total: number; readonly values: readonly string[] }): Cell {
  if (of.total === 0) return null;
  const shown = of.values.slice(0, NAMES_LISTED_MAX);
  const rest = of.total - shown.length;
  return data(`${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`);
}

/** A postmortem as a document: what the data tells, and the places that people fill. */
export function postmortemDocument(p: Postmortem): readonly Block[] {
  return [
    ...headBlocks(p),
    ...impactBlocks(p),
    ...detectionBlocks(p),
    ...tokenBlocks(p),
    ...timelineBlocks(p),
    ...accessBlocks(p),
    ...keyBlocks(p),
    ...gapBlocks(p),
    ...notificationBlocks(p),
    ...actionBlocks(p),
  ];
}

/** The first line, and the title of the page. */
export function postmortemTitle({ period }: Postmortem): string {
  return `Postmortem: ${momentText(period.from)} to ${momentText(period.to)} (UTC)`;
}

function headBlocks(p: Postmortem): readonly Block[] {
  const about: readonly Cell[] =
    p.entity === null ? ['all findings'] : [`${p.entity.type} `, data(p.entity.ref)];
  const { seconds_to_contain: contained } = p.times;
  const end =
    contained === null
      ? 'No revocation was seen: not contained, as far as the data goes'
      : `Contained after ${durationText(contained)}`;
  return [
    heading(1, postmortemTitle(p)),
    paragraph(
      'Tenant ',
      data(p.tenant),
      ', about ',
      ...about,
      `. Written ${momentText(p.generated_at)}.`,
    ),
    heading(2, 'Summary'),
    paragraph(
      `Findings: ${p.findings.length + p.findings_not_listed}. Tokens: ${p.tokens.total}. Requests: ${p.impact.requests}, clients: ${p.impact.clients.total}, subjects: ${p.impact.subjects.total}. ${end}.`,
    ),
    paragraph('What happened, in two sentences (to fill):'),
    table(
      ['finding', 'rule', 'verdict', 'severity', 'state', 'about', 'in short'],
      p.findings.map((f) => [
        data(f.finding_id),
        f.rule_id,
        data(f.verdict),
        f.severity,
        f.state,
        data(`${f.entity_type} ${f.entity_ref}`),
        data(f.summary),
      ]),
      'Nothing was found.',
    ),
  ];
}

function impactBlocks({ impact }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Impact'),
    table(
      ['what', 'how many', 'which'],
      [
        ['requests', impact.requests, `${impact.failed_requests} of them failed`],
        ['subjects', impact.subjects.total, names(impact.subjects)],
        ['clients', impact.clients.total, names(impact.clients)],
        ['networks', impact.networks.total, names(impact.networks)],
      ],
      '',
    ),
    table(
      ['SLO', 'good', 'bad', 'budget spent'],
      impact.slos.map((s) => [s.slo_id, s.good, s.bad, percent(s.budget_spent_percent)]),
      'No SLO has been computed.',
    ),
  ];
}

function detectionBlocks({ times: t }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Detection and containment'),
    table(
      ['step', 'at', 'after'],
      [
        ['first event', moment(t.first_event), null],
        ['detected', moment(t.detected_at), duration(t.seconds_to_detect)],
        ['first notified', moment(t.notified_at), duration(t.seconds_to_notify)],
        ['revoked', moment(t.revoked_at), duration(t.seconds_from_detection_to_revocation)],
        [
          'last accepted after that',
          moment(t.last_accepted_after_revocation),
          duration(t.seconds_from_revocation_to_last_acceptance),
        ],
        ['contained, from the first event', null, duration(t.seconds_to_contain)],
      ],
      '',
    ),
    paragraph(
      'Each step counts from the one before; a revocation before the detection counts as 0 s.',
    ),
  ];
}

function tokenBlocks({ tokens: t }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Tokens, scopes and audiences'),
    table(
      ['what', 'how many', 'which'],
      [
        ['scopes', t.scopes.total, names(t.scopes)],
        ['audiences', t.audiences.total, names(t.audiences)],
        ['resources', t.resources.total, names(t.resources)],
      ],
      '',
    ),
    table(
      ['token', 'type', 'first seen', 'last seen', 'expires', 'revoked', 'uses'],
      t.list.map((x) => [
        data(x.ref),
        data(x.type),
        moment(x.first_seen),
        moment(x.last_seen),
        moment(x.expires_at),
        moment(x.revoked_at),
        x.uses,
      ]),
      'No token is known.',
    ),
    ...(t.truncated || t.total > t.list.length
      ? [
          paragraph(
            `${t.list.length} of ${t.total} tokens are listed${t.truncated ? ', and there are more than were read' : ''}.`,
          ),
        ]
      : []),
  ];
}

const PHASES: Readonly<Record<TimelineEntry['phase'], string>> = {
  before_detection: '',
  after_detection: 'after detection',
  after_revocation: 'after revocation',
};

/** Lines that the document shows; JSON has all. */
const LINES_LISTED_MAX = 300;

function timelineBlocks(p: Postmortem): readonly Block[] {
  const shown = p.timeline.slice(0, LINES_LISTED_MAX);
  const rest = p.timeline.length - shown.length;
  return [
    heading(2, 'Timeline of token use and revocation'),
    table(
      [
        'at',
        'what',
        'outcome',
        'times',
        'tokens',
        'client',
        'network',
        'agent',
        'resource',
        'when',
      ],
      shown.map((e) => [
        e.count > 1 ? `${momentText(e.at)} to ${momentText(e.until)}` : moment(e.at),
        e.what === 'event' ? data(e.name) : data(`${e.what}: ${e.name}`),
        e.outcome,
        e.count,
        e.token_refs.length === 0
          ? ''
          : data(`${e.token_roles.join('+')} ${e.token_refs.map((r) => r.slice(0, 8)).join(' ')}`),
        data(e.client_id),
        data(e.network),
        data(e.ua_family),
        data(e.resource.join(' ')),
        PHASES[e.phase],
      ]),
      'No event was seen.',
    ),
    ...(rest > 0 ? [paragraph(`And ${rest} more lines; JSON has them.`)] : []),
    ...(p.timeline_truncated
      ? [paragraph('There are more events than a timeline is made of; these are the first.')]
      : []),
  ];
}

function accessBlocks({ accesses_after_detection: a }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Accesses after detection'),
    paragraph(`${a.accepted} accepted, ${a.refused} refused.`),
    table(
      ['resource', 'network', 'agent', 'accepted', 'refused', 'last'],
      a.by_place.map((x) => [
        data(x.resource),
        data(x.network),
        data(x.ua_family),
        x.accepted,
        x.refused,
        moment(x.last),
      ]),
      'No token of the incident was used after its detection.',
    ),
  ];
}

function keyBlocks({ keys }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Keys'),
    paragraph(
      'Keys that signed the tokens: ',
      keys.kids.length === 0 ? 'not told' : data(keys.kids.join(', ')),
      '.',
    ),
    table(
      ['at', 'what', 'issuer', 'key', 'outcome'],
      keys.changes.map((k) => [moment(k.at), k.kind, data(k.issuer), data(k.kid), k.outcome]),
      'Nothing happened to keys in this time.',
    ),
    table(
      ['issuer', 'last rotation'],
      keys.last_rotations.map((k) => [data(k.issuer), moment(k.at)]),
      'No rotation of keys is known.',
    ),
  ];
}

function gapBlocks({ gaps }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Gaps in what was seen'),
    table(
      ['source', 'minutes heard', 'of', 'last event'],
      gaps.sources.map((s) => [
        data(s.source_id),
        s.minutes_heard,
        s.minutes,
        moment(s.last_event),
      ]),
      'No source was heard in this time or the week before.',
    ),
    table(
      ['source', 'rules that cannot see what it sends'],
      gaps.blind.map((b) => [data(b.source_id), data(b.rules.join(', '))]),
      'No rule is known to be blind.',
    ),
    paragraph(
      `Records refused on arrival: ${gaps.refused_records}. SLOs not measured now: ${gaps.unmeasured_slos.length === 0 ? 'none' : gaps.unmeasured_slos.join(', ')}.`,
    ),
  ];
}

function notificationBlocks({ notifications }: Postmortem): readonly Block[] {
  return [
    heading(2, 'Notifications'),
    table(
      ['at', 'to', 'about', 'name', 'severity', 'result'],
      notifications.map((x) => [
        moment(x.at),
        data(x.receiver),
        x.about,
        data(x.name),
        data(x.severity),
        data(x.status),
      ]),
      'Nobody was told.',
    ),
  ];
}

/** Questions that the data answered badly become lines of their own. */
function actionBlocks(p: Postmortem): readonly Block[] {
  const open: string[] = ['Why it was possible, and what prevents it'];
  if (p.times.revoked_at === null)
    open.push('Nothing was revoked: revoke the tokens above, or say why not');
  if (p.times.last_accepted_after_revocation !== null)
    open.push('Tokens were accepted after their revocation: shorten caches or lives');
  if (p.times.notified_at === null) open.push('Nobody was notified: check the routes of alerts');
  if (p.gaps.blind.length > 0)
    open.push('Rules could not see: have the sources send what is missing');
  if (p.gaps.sources.some((s) => s.minutes_heard === 0))
    open.push('A source was silent: find out since when, and why');
  return [
    heading(2, 'Action items (to fill)'),
    table(
      ['action', 'owner', 'due', 'done'],
      open.map((text) => [text, '', '', '']),
      '',
    ),
    heading(2, 'What went well, what went badly (to fill)'),
    list([['Well: '], ['Badly: '], ['Luck: ']]),
  ];
}
