//! Names of DuckDB's own that the guard knows. What is on no list of what is allowed is refused.

/// Functions that are taken out of the instance. They read or write files while a statement is bound, run text as SQL on another
/// connection, or change the instance for everybody.
pub(super) const REMOVED: &[&str] = &[
    "arrow_scan",
    "arrow_scan_dumb",
    "copy_database",
    "create_external_resource",
    "deregister_external_resource",
    "destroy_external_resource",
    "disable_logging",
    "duckdb_secrets",
    "enable_logging",
    "enable_profiling",
    "glob",
    "import_database",
    "json_execute_serialized_sql",
    "json_serialize_plan",
    "pandas_scan",
    "parquet_bloom_probe",
    "parquet_file_metadata",
    "parquet_full_metadata",
    "parquet_kv_metadata",
    "parquet_metadata",
    "parquet_scan",
    "parquet_schema",
    "read_blob",
    "read_csv",
    "read_csv_auto",
    "read_duckdb",
    "read_json",
    "read_json_auto",
    "read_json_objects",
    "read_json_objects_auto",
    "read_ndjson",
    "read_ndjson_auto",
    "read_ndjson_objects",
    "read_parquet",
    "read_single_csv_file",
    "read_single_json_file",
    "read_single_parquet_file",
    "read_text",
    "register_external_resource",
    "register_external_resource_type",
    "sniff_csv",
    "truncate_duckdb_logs",
    "which_secret",
    "write_log",
];

/// Table functions that compute, or tell what is the same for everybody.
pub(super) const COMPUTE: &[&str] = &[
    "duckdb_available_metrics",
    "duckdb_coordinate_systems",
    "duckdb_dialects",
    "duckdb_keywords",
    "duckdb_optimizers",
    "duckdb_prepared_statements",
    "duckdb_variables",
    "generate_series",
    "icu_calendar_names",
    "json_each",
    "json_tree",
    "pg_timezone_names",
    "pragma_collations",
    "pragma_platform",
    "pragma_user_agent",
    "pragma_version",
    "range",
    "repeat",
    "repeat_row",
    "summary",
    "test_all_types",
    "test_vector_types",
    "unnest",
];

/// Table functions that tell of all tables.
pub(super) const CATALOG: &[&str] = &[
    "duckdb_columns",
    "duckdb_constraints",
    "duckdb_dependencies",
    "duckdb_functions",
    "duckdb_indexes",
    "duckdb_schemas",
    "duckdb_sequences",
    "duckdb_table_sample",
    "duckdb_tables",
    "duckdb_triggers",
    "duckdb_types",
    "duckdb_views",
    "pragma_metadata_info",
    "pragma_show",
    "pragma_storage_info",
    "pragma_table_info",
];

/// Settings that everybody may look at.
pub(super) const SETTINGS_SHOWN: &[&str] = &[
    "access_mode",
    "calendar",
    "default_null_order",
    "default_order",
    "integer_division",
    "max_expression_depth",
    "max_memory",
    "memory_limit",
    "null_order",
    "schema",
    "search_path",
    "threads",
    "timezone",
    "worker_threads",
];

/// Settings of a session.
pub(super) const SETTINGS_SET: &[&str] = &["schema", "search_path", "timezone"];

/// Whether `name` is on `list`, without regard to case.
pub(super) fn has(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(name))
}
