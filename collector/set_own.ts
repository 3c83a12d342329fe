/**
 * Sets a property whose name the sender chose. `__proto__` becomes an ordinary own property, so that a sender can
 * neither change a prototype nor hide an attribute behind it.
 */
export function setOwn<V>(target: Record<string, V>, key: string, value: V): void {
  if (key === '__proto__') {
    Object.defineProperty(target, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  } else {
    target[key] = value;
  }
}
