DROP TABLE IF EXISTS skyfill.derived_cycle, skyfill.derived_stray, skyfill.derived_gated, skyfill.derived_list, skyfill.derived_second,
  skyfill.derived_quoted
