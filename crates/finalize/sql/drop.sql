DROP TABLE IF EXISTS skyfill.finalize_bad, skyfill.finalize_climb, skyfill.finalize_up, skyfill.finalize_root,
  skyfill.finalize_gate, skyfill.finalize_listed, skyfill.finalize_hidden, skyfill.finalize_mention, skyfill.finalize_disabled, skyfill.finalize_barred,
  skyfill.finalize_shut, skyfill.finalize_difference, skyfill.finalize_change, skyfill.finalize_post, skyfill.finalize_requote;
DROP FUNCTION IF EXISTS skyfill.host_of, skyfill.collection_of, skyfill.order_of, skyfill.key_of, skyfill.ruled_by, skyfill.gate_of, skyfill.readable, skyfill.items
