import { existsSync } from 'node:fs';
import { join } from 'node:path';
import express, { type Router } from 'express';
import { GrantscopeError } from '../runtime/errors.ts';

/**
 * The built console: one page that is always fetched anew, and files whose names change with their
 * content, which browsers keep for good.
 */
export function consoleFiles(folder: string): Router {
  const router = express.Router();
  router.use((_request, response, next) => {
    response.locals['route'] = 'console';
    next();
  });
  router.get('/', (_request, response) => {
    const page = join(folder, 'index.html');
    if (!existsSync(page))
      throw new GrantscopeError('not_found', 'the console is not built; run: npm run build');
    response.sendFile(page, { cacheControl: false, etag: false, lastModified: false });
  });
  router.use(
    '/assets',
    express.static(join(folder, 'assets'), {
      index: false,
      redirect: false,
      dotfiles: 'ignore',
      setHeaders: (response) => {
        response.setHeader('cache-control', 'public, max-age=31536000, immutable');
      },
    }),
  );
  router.use((_request, response, next) => {
    response.locals['route'] = 'none';
    next();
  });
  return router;
}
