//! GetSqlInfo: what the server and DuckDB's SQL can do.
//!
//! JDBC wants every code that the specification has, each of exactly its type, and fails on any other; so all of them are
//! here but those of Substrait, and there are none of our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, SqlTransactionIsolationLevel,
};

use super::super::State;
use super::batch;
use super::union::{self, SCHEMA, Value};
use super::words::{DATETIME, GRAMMAR, NUMERIC, STRING, SYSTEM};
use crate::config::Config;
use crate::engine::{Call, Engine, Vocabulary};
use crate::error::Result;

/// The codes whose answers are asked of DuckDB.
const VOCABULARY: std::ops::RangeInclusive<u32> = SqlInfo::SqlKeywords as u32..=SqlInfo::SqlDatetimeFunctions as u32;

/// The answers to these codes, to all if there are none; what is not known is left out.
pub(super) async fn rows(state: &State, call: &Call, codes: &[u32]) -> Result<RecordBatch> {
    let asks_words = codes.is_empty() || codes.iter().any(|code| VOCABULARY.contains(code));
    let vocabulary = if asks_words { state.engine.vocabulary(call).await? } else { Vocabulary::default() };
    build(&values(&state.config, state.engine.database().read_only, &vocabulary), codes)
}

fn build(values: &BTreeMap<u32, Value>, codes: &[u32]) -> Result<RecordBatch> {
    let asked = values.iter().filter(|(code, _)| codes.is_empty() || codes.contains(code));
    batch(Arc::clone(&SCHEMA), union::columns(asked.map(|(code, value)| (*code, value)))?)
}

fn values(config: &Config, read_only: bool, vocabulary: &Vocabulary) -> BTreeMap<u32, Value> {
    let mut values = server(read_only);
    values.extend(syntax(read_only, vocabulary));
    values.extend(flags(read_only));
    values.extend(masks());
    values.extend(limits(config));
    values
}

fn code(info: SqlInfo) -> u32 {
    // The enum's numbers are all positive.
    info as u32
}

fn server(read_only: bool) -> BTreeMap<u32, Value> {
    BTreeMap::from([
        (code(SqlInfo::FlightSqlServerName), "Merganser".into()),
        // Some clients look for `duckdb` here, to know the SQL.
        (code(SqlInfo::FlightSqlServerVersion), format!("duckdb {}", Engine::duckdb_version()).as_str().into()),
        (code(SqlInfo::FlightSqlServerArrowVersion), arrow::ARROW_VERSION.into()),
        (code(SqlInfo::FlightSqlServerReadOnly), read_only.into()),
        (code(SqlInfo::FlightSqlServerSql), true.into()),
        (code(SqlInfo::FlightSqlServerSubstrait), false.into()),
        // A bitmask by its type, and by its meaning one of three: ADBC begins transactions if it finds 1 or 2.
        (code(SqlInfo::FlightSqlServerTransaction), Value::Mask(SqlSupportedTransaction::Transaction as i32)),
        (code(SqlInfo::FlightSqlServerCancel), true.into()),
        (code(SqlInfo::FlightSqlServerBulkIngestion), (!read_only).into()),
        (code(SqlInfo::FlightSqlServerIngestTransactionsSupported), (!read_only).into()),
        (code(SqlInfo::FlightSqlServerStatementTimeout), Value::Mask(0)),
        (code(SqlInfo::FlightSqlServerTransactionTimeout), Value::Mask(0)),
    ])
}

fn syntax(read_only: bool, vocabulary: &Vocabulary) -> BTreeMap<u32, Value> {
    let functions = |names: &[&str]| {
        let known = names.iter().filter(|name| vocabulary.functions.contains(**name) || GRAMMAR.contains(name));
        Value::Words(known.map(|name| name.to_uppercase()).collect())
    };
    let keywords = vocabulary.keywords.iter().map(|keyword| keyword.to_uppercase()).collect();
    let case = i64::from(SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32);
    BTreeMap::from([
        // Databases are attached by the operator only.
        (code(SqlInfo::SqlDdlCatalog), false.into()),
        (code(SqlInfo::SqlDdlSchema), (!read_only).into()),
        (code(SqlInfo::SqlDdlTable), (!read_only).into()),
        // The ordinals of 503, 505, 507 and 562 are int64, whatever the specification's text says: ODBC and JDBC read that.
        (code(SqlInfo::SqlIdentifierCase), case.into()),
        (code(SqlInfo::SqlIdentifierQuoteChar), "\"".into()),
        (code(SqlInfo::SqlQuotedIdentifierCase), case.into()),
        (code(SqlInfo::SqlNullOrdering), i64::from(SqlNullOrdering::SqlNullsSortedAtEnd as i32).into()),
        (code(SqlInfo::SqlKeywords), Value::Words(keywords)),
        (code(SqlInfo::SqlNumericFunctions), functions(NUMERIC)),
        (code(SqlInfo::SqlStringFunctions), functions(STRING)),
        (code(SqlInfo::SqlSystemFunctions), functions(SYSTEM)),
        (code(SqlInfo::SqlDatetimeFunctions), functions(DATETIME)),
        (code(SqlInfo::SqlSearchStringEscape), "\\".into()),
        (code(SqlInfo::SqlExtraNameCharacters), "$".into()),
        (code(SqlInfo::SqlSupportsConvert), Value::Lists(conversions())),
        (code(SqlInfo::SqlSchemaTerm), "schema".into()),
        (code(SqlInfo::SqlProcedureTerm), "procedure".into()),
        (code(SqlInfo::SqlCatalogTerm), "catalog".into()),
    ])
}

fn flags(read_only: bool) -> BTreeMap<u32, Value> {
    let yes = [
        SqlInfo::SqlAllTablesAreSelectable,
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
        SqlInfo::SqlTransactionsSupported,
    ];
    let no = [
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ];
    let mut flags: BTreeMap<u32, Value> = yes.map(|info| (code(info), true.into())).into();
    flags.extend(no.map(|info| (code(info), false.into())));
    flags.insert(code(SqlInfo::SqlBatchUpdatesSupported), (!read_only).into());
    flags
}

/// Bit `n` of a mask stands for the value `n` of the enum that belongs to it.
fn masks() -> BTreeMap<u32, Value> {
    BTreeMap::from(
        [
            // By columns that are not selected, and by expressions beyond them.
            (SqlInfo::SqlSupportedGroupBy, 0b11),
            (SqlInfo::SqlSupportedGrammar, 0b111),
            // Entry and intermediate level; the full one has assertions and domains.
            (SqlInfo::SqlAnsi92SupportedLevel, 0b011),
            // Limited and full outer joins.
            (SqlInfo::SqlOuterJoinsSupportLevel, 0b110),
            // Names of schemas and catalogs stand in calls and in index definitions; there are no privileges.
            (SqlInfo::SqlSchemasSupportedActions, 0b011),
            (SqlInfo::SqlCatalogsSupportedActions, 0b011),
            (SqlInfo::SqlSupportedPositionedCommands, 0),
            // In comparisons, EXISTS, IN and with quantifiers.
            (SqlInfo::SqlSupportedSubqueries, 0b1111),
            (SqlInfo::SqlSupportedUnions, 0b11),
            (SqlInfo::SqlSupportedTransactionsIsolationLevels, 1 << SNAPSHOT as i32),
            // A result is read once, forward.
            (SqlInfo::SqlSupportedResultSetTypes, 0b0010),
            (SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, 0b010),
            (SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, 0b010),
            (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0),
            (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0),
        ]
        .map(|(info, mask)| (code(info), Value::Mask(mask))),
    )
}

/// A transaction reads one state of the database: the nearest name for it.
const SNAPSHOT: SqlTransactionIsolationLevel = SqlTransactionIsolationLevel::SqlTransactionRepeatableRead;

/// Zero is no limit, or none that is known.
fn limits(config: &Config) -> BTreeMap<u32, Value> {
    let first = code(SqlInfo::SqlMaxBinaryLiteralLength);
    let last = code(SqlInfo::SqlMaxUsernameLength);
    let is_flag = |number: &u32| *number == code(SqlInfo::SqlMaxRowSizeIncludesBlobs);
    let mut limits: BTreeMap<u32, Value> =
        (first..=last).filter(|number| !is_flag(number)).map(|number| (number, 0_i64.into())).collect();
    let statement = i64::try_from(config.engine.statement_bytes_max.as_u64()).unwrap_or(i64::MAX);
    limits.insert(code(SqlInfo::SqlMaxStatementLength), statement.into());
    limits.insert(code(SqlInfo::SqlDefaultTransactionIsolation), i64::from(SNAPSHOT as i32).into());
    limits
}

/// What CAST makes of what, in the numbers of `SqlSupportsConvert`.
fn conversions() -> Vec<(i32, Vec<i32>)> {
    use arrow_flight::sql::SqlSupportsConvert as Type;
    const NUMBERS: [Type; 9] = [
        Type::SqlConvertBigint,
        Type::SqlConvertBit,
        Type::SqlConvertDecimal,
        Type::SqlConvertFloat,
        Type::SqlConvertInteger,
        Type::SqlConvertNumeric,
        Type::SqlConvertReal,
        Type::SqlConvertSmallint,
        Type::SqlConvertTinyint,
    ];
    const TEXTS: [Type; 3] = [Type::SqlConvertChar, Type::SqlConvertLongvarchar, Type::SqlConvertVarchar];
    const BYTES: [Type; 3] = [Type::SqlConvertBinary, Type::SqlConvertLongvarbinary, Type::SqlConvertVarbinary];
    const INTERVALS: [Type; 2] = [Type::SqlConvertIntervalDayTime, Type::SqlConvertIntervalYearMonth];
    const TIMES: [Type; 3] = [Type::SqlConvertDate, Type::SqlConvertTime, Type::SqlConvertTimestamp];
    let all = [NUMBERS.as_slice(), &TEXTS, &BYTES, &INTERVALS, &TIMES].concat();
    let mut conversions = BTreeMap::new();
    let mut add = |from: &[Type], to: &[Type]| {
        for source in from {
            let mut targets: Vec<i32> = to.iter().chain(&TEXTS).map(|target| *target as i32).collect();
            targets.sort_unstable();
            targets.dedup();
            conversions.insert(*source as i32, targets);
        }
    };
    add(&NUMBERS, &NUMBERS);
    add(&TEXTS, &all);
    add(&BYTES, &BYTES);
    add(&INTERVALS, &INTERVALS);
    add(&[Type::SqlConvertDate], &[Type::SqlConvertDate, Type::SqlConvertTimestamp]);
    add(&[Type::SqlConvertTime], &[Type::SqlConvertTime]);
    add(&[Type::SqlConvertTimestamp], &TIMES);
    conversions.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int32Type, UInt32Type, UnionMode};

    use super::*;

    const STRINGS: &[u32] = &[0, 1, 2, 504, 513, 514, 529, 530, 531];
    const BIGINTS: &[u32] = &[503, 505, 507, 562];
    const MASKS: &[u32] = &[8, 100, 101, 522, 525, 526, 528, 533, 534, 535, 538, 540, 564];
    const FLAGS: &[u32] = &[
        3, 4, 5, 9, 10, 11, 500, 501, 502, 506, 515, 516, 518, 519, 520, 521, 523, 524, 527, 532, 536, 537, 539, 556,
        563, 565, 566,
    ];

    /// The member of the union that a code's value has to be in.
    fn member(code: u32) -> i8 {
        match code {
            code if STRINGS.contains(&code) => 0,
            code if FLAGS.contains(&code) || (572..=576).contains(&code) => 1,
            code if MASKS.contains(&code) || (567..=571).contains(&code) => 3,
            code if BIGINTS.contains(&code) || (541..=561).contains(&code) => 2,
            508..=512 => 4,
            517 => 5,
            other => panic!("code {other} is not of the specification"),
        }
    }

    fn answer(codes: &[u32]) -> RecordBatch {
        let vocabulary = Vocabulary {
            keywords: ["select".to_owned()].into(),
            functions: ["abs".to_owned(), "upper".to_owned(), "now".to_owned(), "version".to_owned()].into(),
        };
        build(&values(&Config::default(), false, &vocabulary), codes).unwrap()
    }

    fn codes(batch: &RecordBatch) -> Vec<u32> {
        batch.column(0).as_primitive::<UInt32Type>().values().to_vec()
    }

    #[test]
    fn every_code_is_answered_in_its_type() {
        let batch = answer(&[]);
        assert_eq!(batch.schema(), *SCHEMA);
        // 6 and 7 tell versions of Substrait, which is not offered.
        let expected: Vec<u32> = (0..=5).chain(8..=11).chain(100..=101).chain(500..=576).collect();
        assert_eq!(codes(&batch), expected);
        let union = batch.column(1).as_union();
        for (row, code) in expected.iter().enumerate() {
            assert_eq!(union.type_id(row), member(*code), "code {code}");
        }
    }

    #[test]
    fn unknown_codes_are_left_out() {
        assert_eq!(codes(&answer(&[8, 99_999, 1])), [1, 8]);
        assert_eq!(answer(&[99_999]).num_rows(), 0);
    }

    #[test]
    fn values_say_what_is_so() {
        let text = |code: u32| {
            let batch = answer(&[code]);
            batch.column(1).as_union().value(0).as_string::<i32>().value(0).to_owned()
        };
        assert!(text(1).starts_with("duckdb v"), "{}", text(1));
        assert_eq!((text(504), text(513)), ("\"".to_owned(), "\\".to_owned()));
        let transactions = answer(&[8]).column(1).as_union().value(0);
        assert_eq!(transactions.as_primitive::<Int32Type>().value(0), 1);
        let numeric = answer(&[509]).column(1).as_union().value(0);
        assert_eq!(numeric.as_list::<i32>().value(0).as_string::<i32>().value(0), "ABS");
    }

    #[test]
    fn no_member_of_the_union_may_be_null() {
        let schema = &*SCHEMA;
        let DataType::Union(fields, UnionMode::Dense) = schema.field(1).data_type() else { panic!("{schema}") };
        assert_eq!(fields.iter().map(|(id, _)| id).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert!(fields.iter().all(|(_, field)| !field.is_nullable()));
    }
}
