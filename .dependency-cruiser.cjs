/** The rules of the house (docs/ARCHITECTURE.md). `npm run boundaries` checks them. */
const features = 'collector|detectors|alerts|dashboards|api';
const only = (name, from, allowed, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: from },
  to: {
    path: '^(model|store|runtime|collector|detectors|alerts|dashboards|api|instrumentation|cli|demo|bench|test)/',
    pathNot: allowed,
  },
});
const packageDoor = (name, pkg, door) => ({
  name,
  comment: `${pkg} has one door`,
  severity: 'error',
  from: { pathNot: door },
  to: { path: `node_modules/${pkg}/` },
});

module.exports = {
  forbidden: [
    only('model-is-pure', '^model/', '^model/', 'model imports zod and nothing else'),
    {
      name: 'model-imports-zod-only',
      severity: 'error',
      from: { path: '^model/' },
      to: {
        dependencyTypes: [
          'npm',
          'npm-dev',
          'npm-optional',
          'npm-peer',
          'core',
          'npm-no-pkg',
          'npm-unknown',
        ],
        pathNot: 'node_modules/zod/',
      },
    },
    only('runtime-imports-model', '^runtime/', '^(runtime|model)/'),
    only('store-imports-model-and-runtime', '^store/', '^(store|model|runtime)/'),
    only('rules-import-model', '^detectors/rules/', '^(model|detectors/rules)/'),
    only('sources-import-model', '^collector/sources/', '^(model|collector/sources)/'),
    only('slos-import-model', '^alerts/slos/', '^(model|alerts/slos)/'),
    ...features.split('|').map((feature) => ({
      name: `${feature}-stands-alone`,
      comment: 'features meet in tables and in model types (dashboards may read alerts/slos)',
      severity: 'error',
      from: { path: `^${feature}/` },
      to: {
        path: `^(${features
          .split('|')
          .filter((f) => f !== feature)
          .join('|')}|cli|demo|bench|test)/`,
        ...(feature === 'dashboards' ? { pathNot: '^alerts/(slos/|registry)' } : {}),
      },
    })),
    only(
      'instrumentation-imports-model-and-keyring',
      '^instrumentation/',
      '^(instrumentation/|model/|runtime/keyring|runtime/errors|runtime/token_reference)',
    ),
    packageDoor(
      'clickhouse-client-door',
      '@clickhouse/client',
      '^(store/client\\.ts|node_modules/)',
    ),
    packageDoor('chdb-door', 'chdb', '^(store/embedded_engine\\.ts|node_modules/)'),
    packageDoor('kafkajs-door', 'kafkajs', '^(collector/queue/|test/kafka/|node_modules/)'),
    {
      ...packageDoor('public-suffix-door', 'tldts', '^(detectors/rules/_hosts\\.ts|node_modules/)'),
      comment:
        'the public suffix list comes with tldts: rules ask _hosts.ts, so that all compare domains alike',
    },
    packageDoor(
      'network-database-door',
      'maxmind',
      '^(collector/processors/network_databases\\.ts|node_modules/)',
    ),
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-vague-folders',
      severity: 'error',
      from: {},
      to: { path: '(^|/)(utils|common|shared|helpers|lib)/', pathNot: 'node_modules' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|data|node_modules)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
