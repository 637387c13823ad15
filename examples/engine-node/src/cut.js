// Values in messages.

/** A value for a message, cut short [ERR-002]; texts stand in quotes. */
export function cut(value, length = 64) {
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
