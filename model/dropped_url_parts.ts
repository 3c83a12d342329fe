/**
 * Names what a stored URL has lost: userinfo, query and fragment may hold secrets and are always cut off, but that a
 * redirect URI had them is telling (`https://shop.example@evil.example/`). Kept as `ext.redirect_uri_had`, joined
 * by a space.
 */
export function droppedUrlParts(url: string): readonly ('userinfo' | 'query' | 'fragment')[] {
  const parts: ('userinfo' | 'query' | 'fragment')[] = [];
  const hash = url.indexOf('#');
  const beforeHash = hash === -1 ? url : url.slice(0, hash);
  if (/:\/\/[^\s/?#@]{1,256}@/.test(url)) parts.push('userinfo');
  if (beforeHash.includes('?')) parts.push('query');
  if (hash !== -1) parts.push('fragment');
  return parts;
}
