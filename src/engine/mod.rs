//! The engine: the only folder that names DuckDB.
#[cfg_attr(not(test), expect(dead_code, reason = "its caller is not merged yet"))]
mod timezone;
