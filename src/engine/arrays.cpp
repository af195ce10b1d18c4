// How the rows of a result become Arrow arrays, on DuckDB's own threads: called by `engine/ffi.rs`.
//
// DuckDB's Arrow format is used throughout, but for how values get into the buffers of plain columns. Its appenders ask for room
// with every value of text, and widen every DECIMAL with a call; here a chunk of a column is one pass, and a copy where the
// layouts are the same. Room is asked for once for each chunk, and for a batch as much as the largest one took, so that buffers are
// seldom moved. A batch ends by its bytes as well as by its rows: before the chunk that would bring it over. Columns of other types
// are DuckDB's matter, as before.
//
// Like `guard/plan.cpp` it links against the very DuckDB that it is compiled with, and reads internal classes.

#include "duckdb.hpp"
#include "duckdb/common/arrow/appender/append_data.hpp"
#include "duckdb/common/arrow/arrow_appender.hpp"
#include "duckdb/common/arrow/arrow_format.hpp"
#include "duckdb/common/deque.hpp"
#include "duckdb/common/type_visitor.hpp"
#include "duckdb/main/capi_v2/capi_v2_result_internal.hpp"

namespace {

using duckdb::ArrowAppendData;
using duckdb::idx_t;
using duckdb::LogicalType;
using duckdb::LogicalTypeId;
using duckdb::PhysicalType;
using duckdb::string_t;
using duckdb::unique_ptr;
using duckdb::UnifiedVectorFormat;
using duckdb::Vector;
using duckdb::vector;

// Rows `from` to `to` of a vector, and where they go.
struct Slice {
	Slice(ArrowAppendData &column, const Vector &input, idx_t from, idx_t to) : from(from), rows(to - from) {
		input.ToUnifiedFormat(format);
		const auto before = column.null_count;
		AppendValidity(column);
		has_nulls = column.null_count != before;
	}

	// DuckDB's own takes bit after bit, also of the many columns that could have NULLs and have none.
	void AppendValidity(ArrowAppendData &column) {
		const auto &validity = format.validity;
		if (validity.CannotHaveNull() || column.row_count % 8 != 0) {
			column.AppendValidity(format, from, from + rows);
			return;
		}
		ArrowAppendData::ResizeValidity(column.GetValidityBuffer(), column.row_count + rows);
		if (IsFlat() && from == 0 && validity.CheckAllValid(rows)) {
			return;
		}
		auto target = column.GetValidityBuffer().data() + column.row_count / 8;
		for (idx_t row = 0; row < rows; row += 8) {
			const auto bits = duckdb::MinValue<idx_t>(8, rows - row);
			uint8_t missing = 0;
			for (idx_t bit = 0; bit < bits; bit++) {
				missing |= static_cast<uint8_t>(!validity.RowIsValidUnsafe(At(row + bit))) << bit;
			}
			if (missing != 0) {
				target[row / 8] = static_cast<uint8_t>(~missing);
				column.null_count += static_cast<idx_t>(__builtin_popcount(missing));
			}
		}
	}

	idx_t At(idx_t row) const {
		return format.sel->get_index(from + row);
	}

	// Whether the values lie one after the other.
	bool IsFlat() const {
		return !format.sel->IsSet();
	}

	UnifiedVectorFormat format;
	idx_t from;
	idx_t rows;
	bool has_nulls;
};

// Room for `rows` more values; answers where they go.
template <class T>
T *Extend(ArrowAppendData &column, idx_t rows) {
	auto &buffer = column.GetMainBuffer();
	buffer.resize(sizeof(T) * (column.row_count + rows));
	return buffer.GetData<T>() + column.row_count;
}

// Values whose layout is Arrow's.
template <class T>
void AppendSame(ArrowAppendData &column, const Vector &input, idx_t from, idx_t to, idx_t) {
	const Slice slice(column, input, from, to);
	auto target = Extend<T>(column, slice.rows);
	auto values = UnifiedVectorFormat::GetData<T>(slice.format);
	if (slice.IsFlat()) {
		memcpy(target, values + from, sizeof(T) * slice.rows);
	} else {
		for (idx_t row = 0; row < slice.rows; row++) {
			target[row] = values[slice.At(row)];
		}
	}
	column.row_count += slice.rows;
}

// A value of Arrow's decimal128.
struct Wide {
	uint64_t lower;
	int64_t upper;
};

// DECIMALs that DuckDB keeps in fewer bits than Arrow does.
template <class T>
void AppendWidened(ArrowAppendData &column, const Vector &input, idx_t from, idx_t to, idx_t) {
	const Slice slice(column, input, from, to);
	auto target = Extend<Wide>(column, slice.rows);
	auto values = UnifiedVectorFormat::GetData<T>(slice.format);
	const bool flat = slice.IsFlat();
	for (idx_t row = 0; row < slice.rows; row++) {
		const int64_t value = values[flat ? from + row : slice.At(row)];
		target[row] = {static_cast<uint64_t>(value), value >> 63};
	}
	column.row_count += slice.rows;
}

// Writes where each text ends into `ends`; answers where the last one does.
idx_t MeasureTexts(const Slice &slice, const string_t *texts, idx_t end, int32_t *ends) {
	for (idx_t row = 0; row < slice.rows; row++) {
		auto at = slice.At(row);
		end += slice.has_nulls && !slice.format.validity.RowIsValid(at) ? 0 : texts[at].GetSize();
		ends[row] = static_cast<int32_t>(end);
	}
	return end;
}

// Texts and bytes, with offsets of 32 bits.
void AppendTexts(ArrowAppendData &column, const Vector &input, idx_t from, idx_t to, idx_t) {
	const Slice slice(column, input, from, to);
	auto texts = UnifiedVectorFormat::GetData<string_t>(slice.format);
	auto &offsets = column.GetMainBuffer();
	offsets.resize(sizeof(int32_t) * (column.row_count + slice.rows + 1));
	auto start = offsets.GetData<int32_t>() + column.row_count;
	if (column.row_count == 0) {
		*start = 0;
	}
	const auto end = MeasureTexts(slice, texts, static_cast<idx_t>(*start), start + 1);
	if (end > static_cast<idx_t>(duckdb::NumericLimits<int32_t>::Maximum())) {
		throw duckdb::OutOfRangeException("the text of one column of one batch is longer than 2 GiB");
	}
	auto &bytes = column.GetAuxBuffer();
	// Room beyond the end, as a short text is copied with the rest of its string_t; what comes after it is written later.
	bytes.reserve(end + string_t::INLINE_BYTES);
	bytes.resize(end);
	auto data = bytes.data();
	for (idx_t row = 0; row < slice.rows; row++) {
		const auto size = start[row + 1] - start[row];
		if (size == 0) {
			continue;
		}
		const auto &text = texts[slice.At(row)];
		if (text.IsInlined()) {
			memcpy(data + start[row], text.GetData(), string_t::INLINE_BYTES);
		} else {
			memcpy(data + start[row], text.GetData(), size);
		}
	}
	column.row_count += slice.rows;
}

// What appends values of a type; null where DuckDB's own does.
duckdb::append_vector_t AppenderOf(const LogicalType &type, const duckdb::ClientProperties &options) {
	const bool views = options.arrow_output_version >= duckdb::ArrowFormatVersion::V1_4;
	switch (type.id()) {
	case LogicalTypeId::TINYINT:
		return AppendSame<int8_t>;
	case LogicalTypeId::UTINYINT:
		return AppendSame<uint8_t>;
	case LogicalTypeId::SMALLINT:
		return AppendSame<int16_t>;
	case LogicalTypeId::USMALLINT:
		return AppendSame<uint16_t>;
	case LogicalTypeId::DATE:
	case LogicalTypeId::INTEGER:
		return AppendSame<int32_t>;
	case LogicalTypeId::UINTEGER:
		return AppendSame<uint32_t>;
	case LogicalTypeId::TIME:
	case LogicalTypeId::TIME_NS:
	case LogicalTypeId::TIMESTAMP_SEC:
	case LogicalTypeId::TIMESTAMP_MS:
	case LogicalTypeId::TIMESTAMP:
	case LogicalTypeId::TIMESTAMP_NS:
	case LogicalTypeId::TIMESTAMP_TZ:
	case LogicalTypeId::TIMESTAMP_TZ_NS:
	case LogicalTypeId::BIGINT:
		return AppendSame<int64_t>;
	case LogicalTypeId::UBIGINT:
		return AppendSame<uint64_t>;
	case LogicalTypeId::FLOAT:
		return AppendSame<float>;
	case LogicalTypeId::DOUBLE:
		return AppendSame<double>;
	case LogicalTypeId::HUGEINT:
		return AppendSame<duckdb::hugeint_t>;
	case LogicalTypeId::UHUGEINT:
		return AppendSame<duckdb::uhugeint_t>;
	case LogicalTypeId::DECIMAL:
		switch (type.InternalType()) {
		case PhysicalType::INT16:
			return views ? nullptr : AppendWidened<int16_t>;
		case PhysicalType::INT32:
			return views ? nullptr : AppendWidened<int32_t>;
		case PhysicalType::INT64:
			return views ? nullptr : AppendWidened<int64_t>;
		default:
			return AppendSame<duckdb::hugeint_t>;
		}
	case LogicalTypeId::VARCHAR:
	case LogicalTypeId::BLOB:
		return views || options.arrow_offset_size != duckdb::ArrowOffsetSize::REGULAR ? nullptr : AppendTexts;
	default:
		return nullptr;
	}
}

// How much the largest batch took, for the next one to ask for at once: the last one of a row group is smaller than the others.
struct Room {
	idx_t rows = 0;
	vector<idx_t> text_bytes;
};

// A batch that is being filled.
class Batch {
public:
	Batch(const duckdb::ArrowFormatGlobalState &global, const Room &room, idx_t rows) : options(global.Properties()) {
		auto &types = global.Types();
		for (idx_t index = 0; index < types.size(); index++) {
			auto extension = global.ExtensionTypes().find(index);
			const auto end = global.ExtensionTypes().end();
			auto column = duckdb::ArrowAppender::InitializeChild(types[index], duckdb::MaxValue(rows, room.rows), options,
			                                                     extension == end ? nullptr : extension->second);
			auto appender =
			    AppenderOf(column->extension_data ? column->extension_data->GetInternalType() : types[index], options);
			if (appender) {
				column->append_vector = appender;
			}
			if (appender == AppendTexts && index < room.text_bytes.size()) {
				column->GetAuxBuffer().reserve(room.text_bytes[index]);
			}
			columns.push_back(std::move(column));
		}
	}

	void Append(duckdb::DataChunk &chunk, idx_t from, idx_t to) {
		for (idx_t index = 0; index < columns.size(); index++) {
			columns[index]->AppendChild(chunk.data[index], from, to, chunk.size());
		}
		row_count += to - from;
	}

	idx_t Rows() const {
		return row_count;
	}

	// Whether so many rows more, of the size of those that it has, would bring it over so many bytes.
	bool IsFullWith(idx_t rows, idx_t bytes_max) const {
		const auto bytes = Bytes();
		return bytes + bytes * rows / row_count > bytes_max;
	}

	idx_t Bytes() const {
		idx_t bytes = 0;
		for (auto &column : columns) {
			bytes += column->ByteSize();
		}
		return bytes;
	}

	// A batch that is larger than it should be is no example.
	void Tell(Room &room, idx_t bytes_max) const {
		room.rows = duckdb::MaxValue(room.rows, row_count);
		room.text_bytes.resize(columns.size());
		for (idx_t index = 0; index < columns.size(); index++) {
			const auto taken = columns[index]->GetAuxBuffer().size() + string_t::INLINE_BYTES;
			room.text_bytes[index] = duckdb::MaxValue(room.text_bytes[index], duckdb::MinValue(taken, bytes_max));
		}
	}

	// Moves the columns into an array, which is released as those of DuckDB's are.
	ArrowArray Finish(const vector<LogicalType> &types) {
		auto root = duckdb::make_uniq<ArrowAppendData>(options);
		duckdb::ArrowAppender::AddChildren(*root, columns.size());
		ArrowArray array {};
		array.length = static_cast<int64_t>(row_count);
		array.n_buffers = 1;
		array.buffers = root->buffers.data();
		array.n_children = static_cast<int64_t>(columns.size());
		array.children = root->child_pointers.data();
		root->child_data = std::move(columns);
		for (idx_t index = 0; index < types.size(); index++) {
			root->child_arrays[index] =
			    *duckdb::ArrowAppender::FinalizeChild(types[index], std::move(root->child_data[index]));
		}
		array.private_data = root.release();
		array.release = duckdb::ArrowAppender::ReleaseArray;
		return array;
	}

private:
	duckdb::ClientProperties options;
	vector<unique_ptr<ArrowAppendData>> columns;
	idx_t row_count = 0;
};

// The same as the class of this purpose in arrow_format.cpp, which has no header: ArrowFormat::UnpackUnit reads it.
class Unit : public duckdb::ResultUnit {
public:
	Unit(idx_t rows, idx_t bytes, unique_ptr<duckdb::ArrowArrayWrapper> array)
	    : ResultUnit(rows, bytes), array(std::move(array)) {
	}

	unique_ptr<duckdb::ArrowArrayWrapper> array;
};

// What one of DuckDB's threads makes.
class Local : public duckdb::ResultFormatLocalState {
public:
	void Seal(const vector<LogicalType> &types, idx_t batch_bytes) {
		auto array = duckdb::make_uniq<duckdb::ArrowArrayWrapper>();
		const auto rows = batch->Rows();
		const auto bytes = batch->Bytes();
		batch->Tell(room, batch_bytes);
		array->arrow_array = batch->Finish(types);
		batch.reset();
		sealed.push_back(duckdb::make_uniq<Unit>(rows, bytes, std::move(array)));
	}

	Room room;
	unique_ptr<Batch> batch;
	duckdb::deque<unique_ptr<Unit>> sealed;
};

// DuckDB's Arrow format, with batches of ours.
class Format : public duckdb::ArrowFormat {
public:
	Format(idx_t batch_rows, idx_t batch_bytes)
	    : ArrowFormat(batch_rows), batch_rows(batch_rows), batch_bytes(batch_bytes) {
	}

	// By default the offset of a TIMETZ is lost. Without loss each type is named in the schema, which `engine/types` knows to read; it
	// costs other types a conversion back.
	unique_ptr<duckdb::ResultFormatGlobalState> InitGlobal(const duckdb::ResultFormatContext &context) override {
		auto exported = context;
		for (auto &type : exported.types) {
			exported.client_properties.arrow_lossless_conversion |=
			    duckdb::TypeVisitor::Contains(type, LogicalTypeId::TIME_TZ);
		}
		return ArrowFormat::InitGlobal(exported);
	}

	unique_ptr<duckdb::ResultFormatLocalState> InitLocal(duckdb::ResultFormatGlobalState &) override {
		return duckdb::make_uniq<Local>();
	}

	void AppendToUnit(duckdb::ResultFormatGlobalState &global_state, duckdb::ResultFormatLocalState &local_state,
	                  duckdb::DataChunk &chunk) override {
		auto &global = global_state.Cast<duckdb::ArrowFormatGlobalState>();
		auto &local = local_state.Cast<Local>();
		for (idx_t from = 0; from < chunk.size();) {
			if (local.batch && local.batch->IsFullWith(chunk.size() - from, batch_bytes)) {
				local.Seal(global.Types(), batch_bytes);
			}
			if (!local.batch) {
				const auto rows = duckdb::MinValue(batch_rows, chunk.size() - from);
				local.batch = duckdb::make_uniq<Batch>(global, local.room, rows);
			}
			const auto to = duckdb::MinValue(from + batch_rows - local.batch->Rows(), chunk.size());
			local.batch->Append(chunk, from, to);
			from = to;
			if (local.batch->Rows() >= batch_rows || local.batch->Bytes() >= batch_bytes) {
				local.Seal(global.Types(), batch_bytes);
			}
		}
	}

	bool IsUnitFinished(duckdb::ResultFormatLocalState &local) override {
		return !local.Cast<Local>().sealed.empty();
	}

	unique_ptr<duckdb::ResultUnit> FinishUnit(duckdb::ResultFormatGlobalState &global,
	                                          duckdb::ResultFormatLocalState &local_state) override {
		auto &local = local_state.Cast<Local>();
		if (local.sealed.empty() && local.batch) {
			local.Seal(global.Cast<duckdb::ArrowFormatGlobalState>().Types(), batch_bytes);
		}
		if (local.sealed.empty()) {
			return nullptr;
		}
		auto unit = std::move(local.sealed.front());
		local.sealed.pop_front();
		return std::move(unit);
	}

private:
	idx_t batch_rows;
	idx_t batch_bytes;
};

} // namespace

// duckdb_v2_statement_execute_arrow with batches of ours: at most `batch_rows` rows, and about `batch_bytes` bytes.
extern "C" DUCKDB_V2_ERROR
merganser_execute_arrow(duckdb_v2_connection_handle connection, duckdb_v2_sql_statement_handle statement,
                        const duckdb_v2_identifier_t *names, const duckdb_v2_value_handle *values, idx_t count,
                        idx_t batch_rows, idx_t batch_bytes, duckdb_v2_arrow_result_handle *result,
                        duckdb_v2_error_info_handle *error) {
	using namespace duckdb::capiv2;
	return WithErrorHandler(error, [&]() {
		auto format = duckdb::make_shared_ptr<Format>(batch_rows, batch_bytes);
		auto executed = ExecuteStatementV2(Convert(connection)->context, *Convert(statement), names, values, count,
		                                   "duckdb_v2_statement_execute_arrow", std::move(format));
		*result = ConvertArrowResult(executed.release());
	});
}
