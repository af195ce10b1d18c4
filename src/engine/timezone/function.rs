//! How a plain Rust function becomes a vectorised SQL function: reading arguments, writing results, NULLs, the session.
//!
//! A function is written for one row, over values that are already resolved: a zone, not its name. Names are resolved
//! once for each run of equal ones, which for a constant argument means once for each chunk.

use std::marker::PhantomData;
use std::sync::Arc;

use duckdb_neo::bind_arguments::BindArguments;
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::VectorCollection;
use duckdb_neo::enums::{FunctionProperty, FunctionPropertyStability};
use duckdb_neo::scalar::{ScalarBindCallbacks, ScalarCallbacks, ScalarFunctionBuilder};
use duckdb_neo::signature::{FunctionParameter, SignatureBuilder};
use duckdb_neo::types::{
    IntervalValue, TimeTzValue, TimestampNsValue, TimestampTzNsValue, TimestampTzValue, TimestampValue,
};
use duckdb_neo::vector::{OwnedVectorElement, StorageKind, Unknown, Vector, VectorElement};
use duckdb_neo::{DuckDBType, Result};

use super::format::Format;
use super::part::Part;
use super::zone::Zone;
use super::{names, setting};

/// What a call site knows of its session, taken when the statement is bound.
#[derive(Debug)]
pub(super) struct Session {
    /// The session's time zone.
    pub(super) zone: Arc<Zone>,
    /// The session's clock in microseconds since the epoch.
    pub(super) now: i64,
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        // Two calls in one statement are the same call, although the clock went on between their binding.
        self.zone == other.zone
    }
}

impl Session {
    /// The session that `context` belongs to.
    pub(super) fn of(context: &Context) -> Result<Self> {
        Ok(Self { zone: setting::zone(context)?, now: setting::now(context)? })
    }
}

/// The last text read from a column, and what it stood for.
#[derive(Debug)]
pub(super) struct Memo<T> {
    text: String,
    value: Option<T>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { text: String::new(), value: None }
    }
}

impl<T: Clone> Memo<T> {
    /// What `text` stands for, by `resolve` if it is not the last one.
    pub(super) fn get(&mut self, text: &str, resolve: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        if let Some(value) = self.value.as_ref().filter(|_| self.text == text) {
            return Ok(value.clone());
        }
        let value = resolve(text)?;
        text.clone_into(&mut self.text);
        self.value = Some(value.clone());
        Ok(value)
    }
}

/// One kind of argument: its SQL type, and the value that a row of it stands for.
pub(super) trait Input: 'static {
    /// The SQL type.
    type Element: VectorElement + DuckDBType;
    /// What the function gets to see.
    type Value;
    /// What reading keeps from row to row.
    type Memo: Default;

    /// The value of one row.
    fn read(cell: <Self::Element as VectorElement>::Ref<'_>, memo: &mut Self::Memo) -> Result<Self::Value>;
}

macro_rules! plain_input {
    ($($(#[$doc:meta])* $name:ident: $element:ty => $value:ty, |$cell:ident| $read:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl Input for $name {
            type Element = $element;
            type Value = $value;
            type Memo = ();

            fn read($cell: <$element as VectorElement>::Ref<'_>, (): &mut ()) -> Result<$value> {
                Ok($read)
            }
        }
    )*};
}

plain_input! {
    /// TIMESTAMPTZ, in microseconds.
    Instant: TimestampTzValue => i64, |cell| cell.0;
    /// TIMESTAMP, in microseconds.
    Naive: TimestampValue => i64, |cell| cell.0;
    /// TIMESTAMPTZ_NS, in nanoseconds.
    InstantNs: TimestampTzNsValue => i64, |cell| cell.0;
    /// TIMESTAMP_NS, in nanoseconds.
    NaiveNs: TimestampNsValue => i64, |cell| cell.0;
    /// TIMETZ.
    OffsetTime: TimeTzValue => TimeTzValue, |cell| *cell;
    /// INTERVAL.
    Interval: IntervalValue => IntervalValue, |cell| *cell;
    /// BIGINT.
    Integer: i64 => i64, |cell| *cell;
    /// DOUBLE.
    Double: f64 => f64, |cell| *cell;
}

macro_rules! named_input {
    ($($(#[$doc:meta])* $name:ident => $value:ty, $resolve:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl Input for $name {
            type Element = String;
            type Value = $value;
            type Memo = Memo<$value>;

            fn read(cell: &str, memo: &mut Memo<$value>) -> Result<$value> {
                memo.get(cell, $resolve)
            }
        }
    )*};
}

named_input! {
    /// The name of a part of a timestamp.
    PartName => Part, Part::parse;
    /// The name of a time zone.
    ZoneName => Arc<Zone>, names::find;
    /// A format of `strftime`.
    FormatText => Arc<Format>, |text| Format::parse(text).map(Arc::new);
}

/// The arguments of a function, as a tuple of [`Input`]s.
pub(super) trait Inputs: 'static {
    /// One row of them.
    type Values;

    /// Adds the parameters to a signature.
    fn declare(signature: SignatureBuilder, names: &[&str]) -> SignatureBuilder;

    /// Calls `row` for each row, with `None` if any of its values is NULL.
    fn each(vectors: &mut VectorCollection, row: impl FnMut(usize, Option<Self::Values>) -> Result<()>) -> Result<()>;
}

macro_rules! tuple_inputs {
    ($($input:ident $reader:ident $memo:ident $index:tt),+) => {
        impl<$($input: Input),+> Inputs for ($($input,)+) {
            type Values = ($($input::Value,)+);

            fn declare(signature: SignatureBuilder, names: &[&str]) -> SignatureBuilder {
                $(
                    let name = names.get($index).copied().unwrap_or_default();
                    let signature = signature.param(FunctionParameter::new::<$input::Element>(name));
                )+
                signature
            }

            fn each(
                vectors: &mut VectorCollection,
                mut row: impl FnMut(usize, Option<Self::Values>) -> Result<()>,
            ) -> Result<()> {
                let rows = vectors.row_count()?;
                $(flatten::<$input::Element>(vectors, $index)?;)+
                $(
                    let $reader = vectors.get_vector_at::<$input::Element>($index)?.reader()?;
                    let mut $memo = <$input::Memo>::default();
                )+
                for index in 0..rows {
                    match ($($reader.get(index)?,)+) {
                        ($(Some($reader),)+) => row(index, Some(($($input::read($reader, &mut $memo)?,)+)))?,
                        _ => row(index, None)?,
                    }
                }
                Ok(())
            }
        }
    };
}

tuple_inputs!(A a ma 0);
tuple_inputs!(A a ma 0, B b mb 1);
tuple_inputs!(A a ma 0, B b mb 1, C c mc 2);
tuple_inputs!(A a ma 0, B b mb 1, C c mc 2, D d md 3, E e me 4, F f mf 5);
tuple_inputs!(A a ma 0, B b mb 1, C c mc 2, D d md 3, E e me 4, F f mf 5, G g mg 6);

impl Inputs for () {
    type Values = ();

    fn declare(signature: SignatureBuilder, _names: &[&str]) -> SignatureBuilder {
        signature
    }

    fn each(vectors: &mut VectorCollection, mut row: impl FnMut(usize, Option<()>) -> Result<()>) -> Result<()> {
        (0..vectors.row_count()?).try_for_each(|index| row(index, Some(())))
    }
}

/// Gives a compressed vector the one form that rows can be read from.
pub(super) fn flatten<T: VectorElement>(vectors: &mut VectorCollection, index: usize) -> Result<()> {
    if vectors.get_untyped_vector_at(index)?.storage_kind() == StorageKind::Other {
        vectors.get_vector_at_mut::<T>(index)?.flatten()?;
    }
    Ok(())
}

/// A SQL function over a Rust function of one row.
struct Function<I, R, F> {
    body: F,
    signature: PhantomData<fn(I) -> R>,
}

impl<I, R, F> ScalarCallbacks for Function<I, R, F>
where
    I: Inputs,
    R: OwnedVectorElement + 'static,
    F: Fn(&Session, I::Values) -> Result<Option<R>> + Send + Sync + 'static,
{
    type BindData = Session;
    type InitData = ();

    fn exec(
        &self,
        bind_data: Option<&Session>,
        _init_data: Option<&mut ()>,
        context: &Context,
        vectors: &mut VectorCollection,
        output: Vector<'_, Unknown>,
    ) -> Result<()> {
        let fallback;
        let session = if let Some(session) = bind_data {
            session
        } else {
            fallback = Session::of(context)?;
            &fallback
        };
        let mut output = output.cast::<R>()?;
        output.set_size(vectors.row_count()?)?;
        let mut writer = output.writer()?;
        I::each(vectors, |index, values| {
            let result = values.map_or(Ok(None), |values| (self.body)(session, values))?;
            writer.set_ref(index, result.as_ref())
        })
    }
}

impl<I, R, F> ScalarBindCallbacks for Function<I, R, F>
where
    Self: ScalarCallbacks<BindData = Session>,
{
    fn bind(&self, context: &Context, _arguments: BindArguments<'_>) -> Result<Session> {
        Session::of(context)
    }
}

/// Registers SQL functions, one overload at a time.
pub(super) struct Registry<'a> {
    connection: &'a Connection,
}

impl<'a> Registry<'a> {
    /// Registers through `connection`, for the whole instance.
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// The connection.
    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// One more overload of the function `name`, which is NULL if an argument is.
    pub(super) fn add<I, R, F>(&self, name: &str, parameters: &[&str], body: F) -> Result<()>
    where
        I: Inputs,
        R: OwnedVectorElement + DuckDBType + 'static,
        F: Fn(&Session, I::Values) -> Result<Option<R>> + Send + Sync + 'static,
    {
        self.build::<I, R, F>(name, parameters, body)?.register(self.connection)
    }

    /// The same for a function that depends on the clock, and so is bound anew for each execution.
    pub(super) fn add_clock<I, R, F>(&self, name: &str, parameters: &[&str], body: F) -> Result<()>
    where
        I: Inputs,
        R: OwnedVectorElement + DuckDBType + 'static,
        F: Fn(&Session, I::Values) -> Result<Option<R>> + Send + Sync + 'static,
    {
        let stability = FunctionProperty::Stability(FunctionPropertyStability::ConsistentWithinQuery);
        self.build::<I, R, F>(name, parameters, body)?.set_property(stability).register(self.connection)
    }

    fn build<I, R, F>(
        &self,
        name: &str,
        parameters: &[&str],
        body: F,
    ) -> Result<ScalarFunctionBuilder<Function<I, R, F>>>
    where
        I: Inputs,
        R: OwnedVectorElement + DuckDBType + 'static,
        F: Fn(&Session, I::Values) -> Result<Option<R>> + Send + Sync + 'static,
    {
        let signature = I::declare(SignatureBuilder::new(), parameters).return_type(R::logical_type(self.connection)?);
        let function = Function::<I, R, F> { body, signature: PhantomData };
        Ok(ScalarFunctionBuilder::new(name, signature, function).with_bind())
    }
}
