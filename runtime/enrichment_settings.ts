import { z } from 'zod';

const file = z.string().min(1);

/** `enrichment` of grantscope.yaml: local databases of networks. Nothing is downloaded. */
export const EnrichmentSettings = z.strictObject({
  /**
   * Autonomous systems: GeoLite2-ASN, GeoIP2-ISP, DB-IP ASN, IPinfo ASN (.mmdb). Paths are relative to the folder that
   * Grantscope is started in; a replaced file is taken within 10 s.
   */
  asn_database: file.optional(),
  /** Countries, or cities, whose coordinates (to 0.1 degree) impossible travel needs. */
  location_database: file.optional(),
  /** Hosting, VPN, proxy, Tor and relay addresses: GeoIP2-Anonymous-IP, IPinfo privacy detection. */
  anonymous_ip_database: file.optional(),
});
export type EnrichmentSettings = z.infer<typeof EnrichmentSettings>;
