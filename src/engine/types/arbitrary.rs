//! Arbitrary Arrow arrays for property-based tests: a type, and an array of it that a seed decides.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, ListArray, MapArray, NullArray,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef,
    Fields, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTime,
    IntervalDayTimeType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type, i256,
};
use half::f16;
use proptest::prelude::*;

/// A stream of numbers from a seed (xorshift).
pub(in crate::engine) struct Random(u64);

impl Random {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 0
    }

    /// Within `-limit..=limit`.
    fn around(&mut self, limit: u64) -> i64 {
        let magnitude = i64::try_from(self.below(limit + 1)).unwrap();
        if self.flag() { magnitude } else { -magnitude }
    }

    /// At most `digits` digits.
    fn digits(&mut self, digits: u32) -> i128 {
        let wide = i128::from(self.next()) << 62 | i128::from(self.next() >> 2);
        let digits = 1 + u32::try_from(self.next() % u64::from(digits)).unwrap();
        (wide % 10_i128.pow(digits)) * if self.flag() { 1 } else { -1 }
    }
}

/// Types of one value.
fn scalar() -> impl Strategy<Value = DataType> {
    let unit = || {
        prop::sample::select(vec![TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond])
    };
    let zone = prop::sample::select(vec![None, Some("UTC"), Some("+05:30")]);
    let simple = prop::sample::select(vec![
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        DataType::FixedSizeBinary(3),
        DataType::Date32,
        DataType::Date64,
        DataType::Time32(TimeUnit::Second),
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Null,
        DataType::Interval(IntervalUnit::YearMonth),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::Interval(IntervalUnit::MonthDayNano),
    ]);
    prop_oneof![
        4 => simple,
        1 => (unit(), zone).prop_map(|(unit, zone)| DataType::Timestamp(unit, zone.map(Into::into))),
        1 => unit().prop_map(DataType::Duration),
        1 => (1..=9_u8, -2..=9_i8).prop_map(|(precision, scale)| DataType::Decimal32(precision, scale.min(precision.cast_signed()))),
        1 => (1..=18_u8, -2..=9_i8).prop_map(|(precision, scale)| DataType::Decimal64(precision, scale.min(precision.cast_signed()))),
        1 => (1..=30_u8, -2..=30_i8).prop_map(|(precision, scale)| DataType::Decimal128(precision, scale.min(precision.cast_signed()))),
        1 => (1..=30_u8, -2..=30_i8).prop_map(|(precision, scale)| DataType::Decimal256(precision, scale.min(precision.cast_signed()))),
    ]
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, true))
}

/// Types of values and of what contains values.
pub(in crate::engine) fn data_type() -> impl Strategy<Value = DataType> {
    let leaf = prop_oneof![
        6 => scalar(),
        1 => scalar().prop_filter("DuckDB has no dictionary of nothing", |data_type| *data_type != DataType::Null)
            .prop_map(|values| DataType::Dictionary(Box::new(DataType::Int16), Box::new(values))),
        1 => scalar().prop_filter("no runs of nothing", |data_type| *data_type != DataType::Null)
            .prop_map(|values| DataType::RunEndEncoded(Arc::new(Field::new("run_ends", DataType::Int32, false)), Arc::new(Field::new("values", values, true)))),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        let lists: Vec<fn(FieldRef) -> DataType> = vec![
            DataType::List, DataType::LargeList, DataType::ListView, DataType::LargeListView,
            |item| DataType::FixedSizeList(item, 2),
        ];
        prop_oneof![
            2 => (prop::sample::select(lists), inner.clone()).prop_map(|(list, inner)| list(item(inner))),
            2 => prop::collection::vec(inner.clone(), 1..3).prop_map(|members| {
                let members = members.into_iter().enumerate();
                DataType::Struct(members.map(|(at, inner)| Field::new(format!("m{at}"), inner, true)).collect())
            }),
            1 => inner.prop_map(|inner| {
                let fields = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", inner, true)]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
            }),
        ]
    })
}

/// An array of `data_type`; a fifth of it is null.
pub(in crate::engine) fn array(data_type: &DataType, len: usize, random: &mut Random) -> ArrayRef {
    let nulls = (0..len).map(|_| random.below(5) > 0).collect::<NullBuffer>();
    match data_type {
        DataType::Null => Arc::new(NullArray::new(len)),
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| array(field.data_type(), len, random)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, Some(nulls)))
        }
        DataType::FixedSizeList(item, size) => {
            let values = array(item.data_type(), len * 2, random);
            Arc::new(FixedSizeListArray::new(Arc::clone(item), *size, values, Some(nulls)))
        }
        DataType::List(item) => {
            let offsets = lengths(len, random);
            let values = array(item.data_type(), offsets.iter().sum(), random);
            Arc::new(ListArray::new(Arc::clone(item), OffsetBuffer::from_lengths(offsets), values, Some(nulls)))
        }
        DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            cast(&array(&DataType::List(Arc::clone(item)), len, random), data_type).unwrap()
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!("entries") };
            let lengths = lengths(len, random);
            let count: usize = lengths.iter().sum();
            let keys = Arc::new(StringArray::from_iter_values((0..count).map(|at| format!("k{at}"))));
            let values = array(fields[1].data_type(), count, random);
            let entry = StructArray::new(fields.clone(), vec![keys, values], None);
            Arc::new(MapArray::new(Arc::clone(entries), OffsetBuffer::from_lengths(lengths), entry, Some(nulls), false))
        }
        DataType::Dictionary(_, values) => {
            let values = array(values, 3, random);
            let keys = (0..len).map(|_| (random.below(5) > 0).then(|| i16::try_from(random.below(3)).unwrap()));
            let keys = keys.collect::<PrimitiveArray<Int16Type>>();
            Arc::new(arrow::array::DictionaryArray::new(keys, values))
        }
        DataType::RunEndEncoded(_, values) => {
            let runs = len.div_ceil(2);
            let ends = (1..=runs).map(|run| i32::try_from((run * 2).min(len)).unwrap());
            let ends = PrimitiveArray::<Int32Type>::from_iter_values(ends);
            let values = array(values.data_type(), runs, random);
            Arc::new(arrow::array::RunArray::<Int32Type>::try_new(&ends, &values).unwrap())
        }
        scalar => scalars(scalar, len, random, nulls),
    }
}

fn lengths(len: usize, random: &mut Random) -> Vec<usize> {
    (0..len).map(|_| usize::try_from(random.below(4)).unwrap()).collect()
}

fn primitives<T: ArrowPrimitiveType>(
    data_type: &DataType,
    nulls: &NullBuffer,
    mut value: impl FnMut() -> T::Native,
) -> ArrayRef {
    let values = (0..nulls.len()).map(|_| value()).collect();
    Arc::new(PrimitiveArray::<T>::new(values, Some(nulls.clone())).with_data_type(data_type.clone()))
}

#[expect(clippy::too_many_lines, reason = "a table of types")]
#[expect(clippy::cast_precision_loss, reason = "any number will do")]
fn scalars(data_type: &DataType, len: usize, random: &mut Random, nulls: NullBuffer) -> ArrayRef {
    // Four thousand years, at most, in microseconds; two hundred in nanoseconds.
    const SECONDS: u64 = 60_000_000_000;
    const NANO_SECONDS: u64 = 6_000_000_000;
    const DAY: u64 = 86_400;
    macro_rules! from {
        ($type:ty, $value:expr) => {
            primitives::<$type>(data_type, &nulls, || $value)
        };
    }
    let natural = |random: &mut Random, limit: u64| i64::try_from(random.below(limit)).unwrap();
    match data_type {
        DataType::Boolean => {
            let values = (0..len).map(|_| random.flag()).collect();
            Arc::new(BooleanArray::new(values, Some(nulls)))
        }
        DataType::Int8 => from!(Int8Type, random.next().to_le_bytes()[0].cast_signed()),
        DataType::Int16 => from!(Int16Type, ((random.next() >> 48) as u16).cast_signed()),
        DataType::Int32 => from!(Int32Type, ((random.next() >> 32) as u32).cast_signed()),
        DataType::Int64 => from!(Int64Type, random.next().cast_signed()),
        DataType::UInt8 => from!(UInt8Type, random.next().to_le_bytes()[0]),
        DataType::UInt16 => from!(UInt16Type, (random.next() >> 48) as u16),
        DataType::UInt32 => from!(UInt32Type, (random.next() >> 32) as u32),
        DataType::UInt64 => from!(UInt64Type, random.next()),
        DataType::Float16 => from!(Float16Type, f16::from_f32(random.around(60_000) as f32 / 16.0)),
        DataType::Float32 => from!(Float32Type, random.around(1 << 40) as f32 / 1024.0),
        DataType::Float64 => from!(Float64Type, random.around(1 << 60) as f64 / 1024.0),
        DataType::Utf8 => {
            const TEXTS: [&str; 5] = ["", "a", "\u{e9}\"\n", "a text of more than twelve bytes", "\u{1f986}"];
            let texts = (0..len).map(|_| TEXTS[usize::try_from(random.below(5)).unwrap()]).collect::<Vec<_>>();
            let texts = texts.iter().zip(&nulls).map(|(text, valid)| valid.then_some(*text));
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::LargeUtf8 | DataType::Utf8View => {
            cast(&scalars(&DataType::Utf8, len, random, nulls), data_type).unwrap()
        }
        DataType::Binary => {
            let blobs = (0..len).map(|_| random.next().to_le_bytes().repeat(2)).collect::<Vec<_>>();
            let blobs = blobs.iter().zip(&nulls).map(|(blob, valid)| valid.then_some(&blob[..blob[0] as usize % 16]));
            Arc::new(blobs.collect::<BinaryArray>())
        }
        DataType::LargeBinary | DataType::BinaryView => {
            cast(&scalars(&DataType::Binary, len, random, nulls), data_type).unwrap()
        }
        DataType::FixedSizeBinary(size) => {
            let bytes: Vec<u8> = (0..len * 3).map(|_| random.next().to_le_bytes()[0]).collect();
            Arc::new(FixedSizeBinaryArray::new(*size, bytes.into(), Some(nulls)))
        }
        DataType::Date32 => from!(Date32Type, random.around(1_000_000).try_into().unwrap()),
        DataType::Date64 => from!(Date64Type, random.around(1_000_000) * 86_400_000),
        DataType::Time32(TimeUnit::Second) => from!(Time32SecondType, natural(random, DAY).try_into().unwrap()),
        DataType::Time32(_) => from!(Time32MillisecondType, natural(random, DAY * 1000).try_into().unwrap()),
        DataType::Time64(TimeUnit::Microsecond) => from!(Time64MicrosecondType, natural(random, DAY * 1_000_000)),
        DataType::Time64(_) => from!(Time64NanosecondType, natural(random, DAY * 1_000_000_000)),
        DataType::Timestamp(TimeUnit::Second, _) => from!(TimestampSecondType, random.around(SECONDS)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            from!(TimestampMillisecondType, random.around(SECONDS * 1000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            from!(TimestampMicrosecondType, random.around(SECONDS * 1_000_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            from!(TimestampNanosecondType, random.around(NANO_SECONDS * 1_000_000_000))
        }
        // Arrow's own interval counts nanoseconds, so a longer span could not be read back.
        DataType::Duration(TimeUnit::Second) => from!(DurationSecondType, random.around(NANO_SECONDS)),
        DataType::Duration(TimeUnit::Millisecond) => from!(DurationMillisecondType, random.around(NANO_SECONDS * 1000)),
        DataType::Duration(TimeUnit::Microsecond) => {
            from!(DurationMicrosecondType, random.around(NANO_SECONDS * 1_000_000))
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            from!(DurationNanosecondType, random.around(NANO_SECONDS * 1_000_000) * 1000)
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            from!(IntervalYearMonthType, random.around(9999).try_into().unwrap())
        }
        DataType::Interval(IntervalUnit::DayTime) => from!(
            IntervalDayTimeType,
            IntervalDayTime::new(random.around(9999).try_into().unwrap(), random.around(99_999).try_into().unwrap())
        ),
        DataType::Interval(IntervalUnit::MonthDayNano) => from!(
            IntervalMonthDayNanoType,
            IntervalMonthDayNano::new(
                random.around(9999).try_into().unwrap(),
                random.around(9999).try_into().unwrap(),
                random.around(1 << 40) * 1000
            )
        ),
        DataType::Decimal32(precision, _) => {
            from!(Decimal32Type, random.digits(u32::from(*precision)).try_into().unwrap())
        }
        DataType::Decimal64(precision, _) => {
            from!(Decimal64Type, random.digits(u32::from(*precision)).try_into().unwrap())
        }
        DataType::Decimal128(precision, _) => from!(Decimal128Type, random.digits(u32::from(*precision))),
        DataType::Decimal256(precision, _) => {
            from!(Decimal256Type, i256::from_i128(random.digits(u32::from(*precision))))
        }
        other => panic!("no arrays of {other}"),
    }
}
