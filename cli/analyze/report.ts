import type { FindingContent } from '../../detectors/finding_identity.ts';
import type { Analysis } from './analysis.ts';

/** Findings and entries of the timeline that a text lists; JSON has all. */
const FINDINGS_LISTED_MAX = 50;
const TIMELINE_LISTED_MAX = 60;
const KINDS_LISTED_MAX = 15;
const MESSAGE_LENGTH_MAX = 160;

const SEVERITIES = ['critical', 'high', 'medium', 'low', 'info'] as const;

/** A list with its heading; the two forms of the report differ in nothing else. */
interface Section {
  readonly title: string;
  readonly lines: readonly string[];
}

function countText(analysis: Analysis): string {
  const counts = SEVERITIES.map((s) => ({
    s,
    n: analysis.findings.filter((f) => f.severity === s).length,
  })).filter(({ n }) => n > 0);
  if (counts.length === 0) return 'no findings';
  return counts.map(({ s, n }) => `${n} ${s}`).join(', ');
}

/** Lists of what is allowed may be long; JSON has them whole. */
function clipped(text: string): string {
  return text.length > MESSAGE_LENGTH_MAX ? `${text.slice(0, MESSAGE_LENGTH_MAX - 3)}...` : text;
}

function inputLines(analysis: Analysis): string[] {
  const files = analysis.files.map(
    (f) => `${f.file}: ${f.records} records, ${f.accepted} accepted, ${f.refused} refused`,
  );
  const shown = analysis.refusals.map(
    (r) => `${r.file}, line ${r.line}: ${r.code}: ${clipped(r.message)}`,
  );
  const refused = analysis.files.reduce((sum, f) => sum + f.refused, 0);
  const rest = refused - shown.length;
  const span =
    analysis.from === null || analysis.to === null
      ? ['no events: nothing was measured']
      : [`${analysis.events} events from ${analysis.from} to ${analysis.to}`];
  const kinds = Object.entries(analysis.by_kind)
    .slice(0, KINDS_LISTED_MAX)
    .map(([kind, n]) => `${kind} ${n}`);
  return [
    ...files,
    ...shown,
    ...(rest > 0 && shown.length > 0 ? [`and ${rest} more refused`] : []),
    ...span,
    ...(kinds.length > 0 ? [kinds.join(', ')] : []),
    ...(analysis.unclassified > 0
      ? [`${analysis.unclassified} events are of a type that this source's mapping does not know`]
      : []),
  ];
}

function findingLines(finding: FindingContent): string[] {
  const { severity, rule_id, verdict, entity_type, entity_ref, client_id } = finding;
  const client = client_id === '' || client_id === entity_ref ? '' : `, client ${client_id}`;
  return [
    `${severity.toUpperCase()} ${rule_id} (${verdict.replaceAll('_', ' ')}), ${entity_type} ${entity_ref}${client}`,
    `  ${finding.first_event_time} to ${finding.last_event_time}: ${finding.summary}`,
    ...finding.reasons.slice(0, 3).map((r) => `  - ${r}`),
  ];
}

function sliLines(analysis: Analysis): string[] {
  const measured = analysis.slis.filter((s) => s.good + s.bad > 0);
  if (measured.length === 0) return ['no traffic that an SLO counts'];
  return measured.map((s) => {
    const ratio = (100 * s.good) / (s.good + s.bad);
    return `${s.id}: ${ratio.toFixed(3)} % good (${s.good} good, ${s.bad} bad, ${s.excluded} excluded), objective ${(s.objective * 100).toFixed(2)} %`;
  });
}

function timelineLines(analysis: Analysis): string[] {
  const lines = analysis.timeline.slice(0, TIMELINE_LISTED_MAX).map((e) => {
    const client = e.client_id === '' ? '' : ` [${e.client_id}]`;
    return `${e.at} ${e.severity === '' ? '' : `${e.severity.toUpperCase()} `}${e.text}${client}`;
  });
  const rest = analysis.timeline.length - lines.length;
  return rest > 0 ? [...lines, `and ${rest} more (--json lists them)`] : lines;
}

function sectionsOf(analysis: Analysis): Section[] {
  const listed = analysis.findings.slice(0, FINDINGS_LISTED_MAX);
  const rest = analysis.findings.length - listed.length;
  return [
    { title: `Input (source ${analysis.source})`, lines: inputLines(analysis) },
    {
      title: `Findings: ${countText(analysis)}`,
      lines: [
        ...listed.flatMap(findingLines),
        ...(rest > 0 ? [`and ${rest} more (--json lists them)`] : []),
      ],
    },
    { title: 'Service levels', lines: sliLines(analysis) },
    { title: 'Timeline', lines: timelineLines(analysis) },
  ];
}

/** The report for a terminal. */
export function textReport(analysis: Analysis): string {
  return sectionsOf(analysis)
    .map(({ title, lines }) => [title, ...lines.map((l) => `  ${l}`)].join('\n'))
    .join('\n\n');
}

/** The same as Markdown. Lines are data, so they stand in code blocks, in which nothing is markup. */
export function markdownReport(analysis: Analysis): string {
  const sections = sectionsOf(analysis).map(({ title, lines }) =>
    lines.length === 0
      ? `## ${title}\n`
      : `## ${title}\n\n\`\`\`text\n${lines.map((l) => l.replaceAll('```', "'''")).join('\n')}\n\`\`\`\n`,
  );
  return ['# Analysis of exported logs\n', ...sections].join('\n');
}
