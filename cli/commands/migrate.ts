import { Command } from 'commander';
import { sql } from '../../model/sql.ts';
import { defineCommand } from '../define_command.ts';

export default defineCommand({
  id: 'migrate',
  build: (cli) =>
    new Command('migrate')
      .description('bring the schema of the store up to date (npm start does it by itself)')
      .option('--json', 'print JSON')
      .action(async (options: { json?: boolean }) => {
        // Opening the store migrates it.
        const rows = await cli.withStore((store) =>
          store.query<{ id: string; applied_at: string }>(
            sql`SELECT id, toString(applied_at) AS applied_at FROM grantscope.schema_migrations ORDER BY id`,
          ),
        );
        cli.print(
          { text: rows.map((r) => `${r.id}  applied ${r.applied_at}`).join('\n'), json: rows },
          options.json === true,
        );
      }),
});
