//! The table functions `pg_timezone_names()` and `icu_calendar_names()`.

use std::sync::atomic::{AtomicUsize, Ordering};

use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::signature::SignatureBuilder;
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use duckdb_neo::types::IntervalValue;
use duckdb_neo::{DuckDBType, Result};
use jiff::Timestamp;

use super::{names, setting};

/// Registers the functions for the whole instance.
pub(super) fn register(connection: &Connection) -> Result<()> {
    TableFunctionBuilder::new("pg_timezone_names", SignatureBuilder::new(), Zones).register(connection)?;
    TableFunctionBuilder::new("icu_calendar_names", SignatureBuilder::new(), Calendars).register(connection)
}

/// A zone as it is now.
#[derive(Debug)]
struct Row {
    name: &'static str,
    abbreviation: String,
    offset_seconds: i32,
    is_daylight_saving: bool,
}

struct Zones;

impl TableFunctionCallbacks for Zones {
    type BindData = Vec<Row>;
    type LocalState = ();
    type GlobalState = AtomicUsize;

    fn bind(
        &self,
        context: &Context,
        _arguments: Vec<BindArgument>,
        bind_handle: BindFunctionHandle<'_>,
    ) -> Result<Self::BindData> {
        let text = String::logical_type(context)?;
        bind_handle.add_result_column("name", &text)?;
        bind_handle.add_result_column("abbrev", &text)?;
        bind_handle.add_result_column("utc_offset", &IntervalValue::logical_type(context)?)?;
        bind_handle.add_result_column("is_dst", &bool::logical_type(context)?)?;
        let now = Timestamp::now();
        let row = |name: &'static str| {
            let zone = names::database_zone(name)?;
            let info = zone.to_offset_info(now);
            Some(Row {
                name,
                abbreviation: info.abbreviation().to_owned(),
                offset_seconds: info.offset().seconds(),
                is_daylight_saving: info.dst().is_dst(),
            })
        };
        Ok(names::all().filter_map(row).collect())
    }

    fn init_global_state(
        &self,
        _bind_data: &Self::BindData,
        _context: &Context,
        _column_data: InitColumnData<'_>,
    ) -> Result<(Option<Self::GlobalState>, Option<usize>)> {
        Ok((Some(AtomicUsize::new(0)), Some(1)))
    }

    fn exec(
        &self,
        bind_data: &Self::BindData,
        global_state: Option<&Self::GlobalState>,
        _local_state: Option<&mut ()>,
        _context: &Context,
        mut output: DataChunkRef<'_>,
        _column_info: ExecColumnInfo<'_>,
    ) -> Result<()> {
        let capacity = output.capacity()?;
        let start = global_state.map_or(bind_data.len(), |next| next.fetch_add(capacity, Ordering::Relaxed));
        let rows: Vec<&Row> = bind_data.iter().skip(start).take(capacity).collect();
        let mut names = output.get_vector_at_mut::<String>(0)?;
        names.set_size(rows.len())?;
        let mut writer = names.writer()?;
        rows.iter().enumerate().try_for_each(|(index, row)| writer.set(index, Some(row.name)))?;
        let mut abbreviations = output.get_vector_at_mut::<String>(1)?;
        abbreviations.set_size(rows.len())?;
        let mut writer = abbreviations.writer()?;
        rows.iter().enumerate().try_for_each(|(index, row)| writer.set(index, Some(&row.abbreviation)))?;
        let mut offsets = output.get_vector_at_mut::<IntervalValue>(2)?;
        offsets.set_size(rows.len())?;
        let mut writer = offsets.writer()?;
        rows.iter().enumerate().try_for_each(|(index, row)| {
            let micros = i64::from(row.offset_seconds) * 1_000_000;
            writer.set(index, Some(IntervalValue { months: 0, days: 0, micros }))
        })?;
        let mut flags = output.get_vector_at_mut::<bool>(3)?;
        flags.set_size(rows.len())?;
        let mut writer = flags.writer()?;
        rows.iter().enumerate().try_for_each(|(index, row)| writer.set(index, Some(row.is_daylight_saving)))
    }
}

struct Calendars;

impl TableFunctionCallbacks for Calendars {
    type BindData = ();
    type LocalState = ();
    type GlobalState = AtomicUsize;

    fn bind(
        &self,
        context: &Context,
        _arguments: Vec<BindArgument>,
        bind_handle: BindFunctionHandle<'_>,
    ) -> Result<()> {
        bind_handle.add_result_column("name", &String::logical_type(context)?)
    }

    fn init_global_state(
        &self,
        _bind_data: &Self::BindData,
        _context: &Context,
        _column_data: InitColumnData<'_>,
    ) -> Result<(Option<Self::GlobalState>, Option<usize>)> {
        Ok((Some(AtomicUsize::new(0)), Some(1)))
    }

    fn exec(
        &self,
        _bind_data: &Self::BindData,
        global_state: Option<&Self::GlobalState>,
        _local_state: Option<&mut ()>,
        _context: &Context,
        mut output: DataChunkRef<'_>,
        _column_info: ExecColumnInfo<'_>,
    ) -> Result<()> {
        let is_first = global_state.is_some_and(|calls| calls.fetch_add(1, Ordering::Relaxed) == 0);
        let mut names = output.get_vector_at_mut::<String>(0)?;
        names.set_size(usize::from(is_first))?;
        if is_first { names.writer()?.set(0, Some(setting::CALENDAR)) } else { Ok(()) }
    }
}
