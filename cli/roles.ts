/** Parts of the product that can run apart where the store is a server. The collector includes the writer. */
export const ROLES = ['collector', 'detectors', 'api'] as const;
export type Role = (typeof ROLES)[number];

/** Name of the file in the data directory that tells other commands where the running server listens: `api`, `collector`. */
export const SERVER_FILE = 'server.json';
