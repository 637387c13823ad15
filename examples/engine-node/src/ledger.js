// The ledger: one row for each call and each accepted interrupt [SES-090].

/** The row of a call. Its payload is handed back where it was not delivered [SES-094]. */
export function callRow(call) {
  const undelivered = call.delivery === 'UNDELIVERED';
  return {
    index: call.index,
    id: call.id,
    function: call.function,
    result: `RESULT_${call.result}`,
    delivery: `DELIVERY_${call.delivery}`,
    token_index: call.tokenIndex,
    reason: `UNDELIVERED_REASON_${undelivered ? call.reason : 'UNSPECIFIED'}`,
    payload: undelivered ? call.payload : '',
    timings: {
      emitted_ms: call.emittedMs,
      dispatched_ms: call.dispatchedMs,
      resolved_ms: call.resolvedMs,
      settled_ms: call.settledMs,
    },
  };
}

/** The row of an interrupt. */
export function interruptRow(entry) {
  return {
    number: entry.number,
    source: entry.source,
    status: `STATUS_${entry.status.toUpperCase()}`,
    delivery: `DELIVERY_${entry.delivery}`,
    token_index: entry.tokenIndex,
    reason: `UNDELIVERED_REASON_${entry.reason}`,
    payload: entry.delivery === 'UNDELIVERED' ? entry.payload : '',
  };
}
