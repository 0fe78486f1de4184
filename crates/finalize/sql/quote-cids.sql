-- Counts of quotes go by the CID that is quoted, whatever its URI.
INSERT INTO skyfill.finalize_quote_cid SELECT skyfill.key_of("subjectCid", ''), count(*) FROM quote GROUP BY "subjectCid";
ANALYZE skyfill.finalize_bad, skyfill.finalize_gate, skyfill.finalize_listed, skyfill.finalize_hidden, skyfill.finalize_mention, skyfill.finalize_barred,
  skyfill.finalize_second, skyfill.finalize_cycle, skyfill.finalize_quote_cid
