// What a bound statement does, told item by item to Rust, which decides: `engine/guard/mod.rs`.
//
// DuckDB calls a planner extension with each plan that it has bound: after views, macros, CTEs and query('...') have become
// operators, and before anything is optimized or run. No spelling of a statement hides what it reads and writes here.
//
// This file only walks the plan. It links against the very DuckDB that it is compiled with (libduckdb-sys is pinned), because
// it reads internal classes.

#include "duckdb.hpp"
#include "duckdb/catalog/catalog_entry/duck_schema_entry.hpp"
#include "duckdb/catalog/catalog_entry/index_catalog_entry.hpp"
#include "duckdb/catalog/catalog_entry/schema_catalog_entry.hpp"
#include "duckdb/catalog/catalog_entry/table_catalog_entry.hpp"
#include "duckdb/catalog/duck_catalog.hpp"
#include "duckdb/function/lambda_functions.hpp"
#include "duckdb/main/connection.hpp"
#include "duckdb/parser/constraints/foreign_key_constraint.hpp"
#include "duckdb/parser/parsed_data/alter_table_info.hpp"
#include "duckdb/parser/parsed_data/bound_pragma_info.hpp"
#include "duckdb/parser/parsed_data/copy_info.hpp"
#include "duckdb/parser/parsed_data/create_index_info.hpp"
#include "duckdb/planner/binder.hpp"
#include "duckdb/planner/constraints/bound_check_constraint.hpp"
#include "duckdb/planner/expression/bound_aggregate_expression.hpp"
#include "duckdb/planner/expression/bound_cast_expression.hpp"
#include "duckdb/planner/expression/bound_constant_expression.hpp"
#include "duckdb/planner/expression/bound_function_expression.hpp"
#include "duckdb/planner/expression/bound_subquery_expression.hpp"
#include "duckdb/planner/expression_binder/alter_binder.hpp"
#include "duckdb/planner/expression_binder/constant_binder.hpp"
#include "duckdb/planner/expression_iterator.hpp"
#include "duckdb/planner/logical_operator_visitor.hpp"
#include "duckdb/planner/operator/list.hpp"
#include "duckdb/planner/parsed_data/bound_create_table_info.hpp"
#include "duckdb/planner/planner_extension.hpp"

namespace {

using duckdb::Identifier;
using duckdb::LogicalOperator;
using duckdb::LogicalOperatorType;
using std::string;

// The same numbers as `engine::guard::Kind`.
enum Kind : uint32_t {
	READ = 0,           // catalog, schema, table
	TABLE_FUNCTION = 1, // name
	FUNCTION = 2,       // name, and its first argument if that is a constant text
	WRITE = 3,          // catalog, schema, table; `what` is the word for how
	CREATE = 4,         // catalog, schema, name; `what` is the kind of entry
	DROP = 5,           // the same
	ALTER = 6,          // the same
	SET = 7,            // name of the setting; `what` is its scope
	PRAGMA = 8,         // name
	COPY_TO = 9,        // path
	VARIANT_OF_JSON = 10,
	SHOWN = 11,   // `what` tells what was shown
	CASCADE = 12, // what depends on what is dropped goes with it
	OTHER = 13,   // name of the operator
};

struct Text {
	const char *data;
	size_t size;
};

struct Item {
	uint32_t kind;
	Text what;
	Text catalog;
	Text schema;
	Text name;
};

// Answers whether the item is allowed; if not, writes why into `message`, and how long that is.
using Decide = bool (*)(const Item *item, char *message, size_t *message_size);

constexpr size_t MESSAGE_BYTES_MAX = 1024;

struct Info : public duckdb::PlannerExtensionInfo {
	explicit Info(Decide decide_p) : decide(decide_p) {
	}
	Decide decide;
};

Text Of(const string &text) {
	return Text {text.data(), text.size()};
}

// Schemas may stand in one another: `outer.inner`.
template <class ITERATOR>
string Joined(ITERATOR begin, ITERATOR end) {
	string joined;
	for (auto part = begin; part != end; part++) {
		joined += (part == begin ? "" : ".") + part->GetIdentifierName();
	}
	return joined;
}

string SchemaOf(const duckdb::SchemaCatalogEntry &schema) {
	auto path = schema.GetSchemaPath();
	return Joined(path.begin(), path.end());
}

// The name of an entry as three texts. That of a schema may have an empty name after it, and is its own last part.
struct Names {
	Names(const duckdb::QualifiedName &qualified, duckdb::CatalogType type) {
		auto path = qualified.Path();
		auto is_schema = type == duckdb::CatalogType::SCHEMA_ENTRY;
		if (is_schema && path.size() > 1 && path.back().empty()) {
			path.pop_back();
		}
		if (path.empty()) {
			return;
		}
		name = path.back().GetIdentifierName();
		auto begin = path.begin();
		if (path.size() >= (is_schema ? 2 : 3)) {
			catalog = (begin++)->GetIdentifierName();
		}
		schema = Joined(begin, path.end() - 1);
	}
	string catalog;
	string schema;
	string name;
};

class Walk {
public:
	Walk(Decide decide, duckdb::ClientContext &context) : decide(decide), context(context) {
	}

	void Plan(LogicalOperator &op) {
		Operator(op);
		duckdb::LogicalOperatorVisitor::EnumerateExpressions(
		    op, [&](duckdb::unique_ptr<duckdb::Expression> *expression) {
			    if (*expression) {
				    Expression(**expression);
			    }
		    });
		for (auto &child : op.children) {
			Plan(*child);
		}
	}

private:
	void Tell(Kind kind, const string &what, const string &catalog, const string &schema, const string &name) {
		Item item {kind, Of(what), Of(catalog), Of(schema), Of(name)};
		char message[MESSAGE_BYTES_MAX];
		size_t message_size = sizeof(message);
		if (!decide(&item, message, &message_size)) {
			throw duckdb::PermissionException(string(message, message_size));
		}
	}

	void Name(Kind kind, const string &name) {
		Tell(kind, string(), string(), string(), name);
	}

	void Table(Kind kind, duckdb::TableCatalogEntry &table, const string &what = string()) {
		Tell(kind, what, table.ParentCatalog().GetName().GetIdentifierName(), SchemaOf(table.ParentSchema()),
		     table.name.GetIdentifierName());
	}

	void Entry(Kind kind, duckdb::CatalogType type, const duckdb::QualifiedName &qualified) {
		Names names(qualified, type);
		Tell(kind, duckdb::CatalogTypeToString(type), names.catalog, names.schema, names.name);
	}

	void Create(duckdb::CreateInfo &info, duckdb::optional_ptr<duckdb::SchemaCatalogEntry> schema) {
		Names names(info.GetQualifiedName(), info.type);
		if (schema) {
			names.catalog = schema->ParentCatalog().GetName().GetIdentifierName();
			names.schema = SchemaOf(*schema);
		}
		if (info.temporary) {
			names.catalog = "temp";
		}
		Tell(CREATE, duckdb::CatalogTypeToString(info.type), names.catalog, names.schema, names.name);
	}

	void CreateTable(duckdb::CreateTableInfo &info, duckdb::SchemaCatalogEntry &schema) {
		Create(info, &schema);
		auto catalog = info.temporary ? "temp" : schema.ParentCatalog().GetName().GetIdentifierName();
		for (auto &column : info.columns.Logical()) {
			Default(column, column.Type(), schema);
		}
		for (auto &constraint : info.constraints) {
			if (constraint->type == duckdb::ConstraintType::CHECK) {
				auto binder = BinderIn(schema);
				auto bound = binder->BindConstraint(*constraint, info.GetQualifiedName().Name(), info.columns);
				Expression(*bound->Cast<duckdb::BoundCheckConstraint>().expression);
			} else if (constraint->type == duckdb::ConstraintType::FOREIGN_KEY) {
				// The other table's rows can no longer be deleted, and tell whether they are there.
				auto &key = constraint->Cast<duckdb::ForeignKeyConstraint>().info;
				if (key.type == duckdb::ForeignKeyType::FK_TYPE_FOREIGN_KEY_TABLE) {
					Tell(WRITE, "REFERENCES", catalog, SchemaOf(schema), key.table.GetIdentifierName());
				}
			}
		}
	}

	// Defaults, checks and conversions are kept as text, and run by whoever writes to the table, the server too. So they are bound
	// here, where who makes them is known.
	void Default(const duckdb::ColumnDefinition &column, const duckdb::LogicalType &type,
	             duckdb::SchemaCatalogEntry &schema) {
		if (!column.Generated() && column.HasDefaultValue()) {
			Default(column.DefaultValue(), type, schema);
		}
	}

	void Default(const duckdb::ParsedExpression &value, const duckdb::LogicalType &type,
	             duckdb::SchemaCatalogEntry &schema) {
		auto binder = BinderIn(schema);
		duckdb::ConstantBinder constant(*binder, context, "DEFAULT value");
		constant.target_type = type;
		auto copy = value.Copy();
		Expression(*constant.Bind(copy));
	}

	duckdb::shared_ptr<duckdb::Binder> BinderIn(duckdb::SchemaCatalogEntry &schema) {
		auto binder = duckdb::Binder::CreateBinder(context);
		binder->SetSearchPath(schema.ParentCatalog(), schema.name);
		return binder;
	}

	void Drop(duckdb::DropInfo &info) {
		auto name = info.GetQualifiedName();
		if (info.type == duckdb::CatalogType::INDEX_ENTRY) {
			// It belongs to its table, whatever it is called.
			duckdb::EntryLookupInfo lookup(info.type, name);
			auto index = duckdb::Catalog::GetEntry(context, lookup, duckdb::OnEntryNotFound::RETURN_NULL);
			if (index) {
				name = name.WithName(index->Cast<duckdb::IndexCatalogEntry>().GetTableName());
			}
		}
		Entry(DROP, info.type, name);
		if (info.cascade) {
			Name(CASCADE, string());
		}
	}

	void Alter(duckdb::AlterInfo &info) {
		auto &name = info.GetQualifiedName();
		Entry(ALTER, info.GetCatalogType(), name);
		if (info.type == duckdb::AlterType::ALTER_TABLE) {
			AlterTable(info.Cast<duckdb::AlterTableInfo>());
		} else if (info.type == duckdb::AlterType::ALTER_VIEW) {
			auto &view = info.Cast<duckdb::AlterViewInfo>();
			if (view.alter_view_type == duckdb::AlterViewType::RENAME_VIEW) {
				auto &renamed = view.Cast<duckdb::RenameViewInfo>().new_view_name;
				Entry(CREATE, duckdb::CatalogType::VIEW_ENTRY, name.WithName(renamed));
			}
		} else if (info.type == duckdb::AlterType::CHANGE_OWNERSHIP) {
			auto &owner = info.Cast<duckdb::ChangeOwnershipInfo>();
			Tell(WRITE, "OWNED BY", name.Catalog().GetIdentifierName(), owner.owner_schema.GetIdentifierName(),
			     owner.owner_name.GetIdentifierName());
		}
	}

	void AlterTable(duckdb::AlterTableInfo &info) {
		auto &name = info.GetQualifiedName();
		auto entry = duckdb::Catalog::GetEntry<duckdb::TableCatalogEntry>(context, name,
		                                                                  duckdb::OnEntryNotFound::RETURN_NULL);
		if (!entry) {
			return;
		}
		auto &schema = entry->ParentSchema();
		switch (info.alter_table_type) {
		case duckdb::AlterTableType::RENAME_TABLE: {
			auto &renamed = info.Cast<duckdb::RenameTableInfo>().new_table_name;
			return Entry(CREATE, duckdb::CatalogType::TABLE_ENTRY, name.WithName(renamed));
		}
		case duckdb::AlterTableType::ADD_COLUMN: {
			auto &column = info.Cast<duckdb::AddColumnInfo>().new_column;
			return Default(column, column.Type(), schema);
		}
		case duckdb::AlterTableType::ADD_FIELD: {
			auto &field = info.Cast<duckdb::AddFieldInfo>().new_field;
			return Default(field, field.Type(), schema);
		}
		case duckdb::AlterTableType::SET_DEFAULT: {
			auto &change = info.Cast<duckdb::SetDefaultInfo>();
			if (change.expression && entry->ColumnExists(change.column_path[0])) {
				Default(*change.expression, entry->GetColumn(change.column_path[0]).Type(), schema);
			}
			return;
		}
		case duckdb::AlterTableType::ALTER_COLUMN_TYPE: {
			auto &change = info.Cast<duckdb::ChangeColumnTypeInfo>();
			duckdb::vector<duckdb::LogicalIndex> columns;
			auto binder = BinderIn(schema);
			duckdb::AlterBinder alter(*binder, context, *entry, columns, change.target_type);
			auto copy = change.expression->Copy();
			Expression(*alter.Bind(copy));
			// Its default stays, and becomes one of the new type.
			if (entry->ColumnExists(change.column_path[0])) {
				Default(entry->GetColumn(change.column_path[0]), change.target_type, schema);
			}
			return;
		}
		default:
			return;
		}
	}

	void Setting(const Identifier &name, duckdb::SetScope scope) {
		auto what = scope == duckdb::SetScope::VARIABLE ? "variable" : scope == duckdb::SetScope::GLOBAL ? "global" : "session";
		Tell(SET, what, string(), string(), name.GetIdentifierName());
	}

	void Get(duckdb::LogicalGet &get) {
		auto table = get.GetTable();
		if (table) {
			Table(READ, *table);
		} else {
			Name(TABLE_FUNCTION, get.function.GetName().GetIdentifierName());
		}
	}

	void Operator(LogicalOperator &op) {
		switch (op.type) {
		case LogicalOperatorType::LOGICAL_GET:
			return Get(op.Cast<duckdb::LogicalGet>());
		case LogicalOperatorType::LOGICAL_INSERT:
			return Table(WRITE, op.Cast<duckdb::LogicalInsert>().table, "INSERT");
		case LogicalOperatorType::LOGICAL_DELETE:
			return Table(WRITE, op.Cast<duckdb::LogicalDelete>().table, "DELETE");
		case LogicalOperatorType::LOGICAL_UPDATE:
			return Table(WRITE, op.Cast<duckdb::LogicalUpdate>().table, "UPDATE");
		case LogicalOperatorType::LOGICAL_MERGE_INTO:
			return Table(WRITE, op.Cast<duckdb::LogicalMergeInto>().table, "MERGE");
		case LogicalOperatorType::LOGICAL_CREATE_TABLE: {
			auto &create = op.Cast<duckdb::LogicalCreateTable>();
			return CreateTable(create.info->Base(), create.schema);
		}
		case LogicalOperatorType::LOGICAL_CREATE_INDEX:
			return Table(WRITE, op.Cast<duckdb::LogicalCreateIndex>().table, "INDEX");
		case LogicalOperatorType::LOGICAL_CREATE_SEQUENCE:
		case LogicalOperatorType::LOGICAL_CREATE_VIEW:
		case LogicalOperatorType::LOGICAL_CREATE_SCHEMA:
		case LogicalOperatorType::LOGICAL_CREATE_MACRO:
		case LogicalOperatorType::LOGICAL_CREATE_TYPE:
		case LogicalOperatorType::LOGICAL_CREATE_TRIGGER: {
			auto &create = op.Cast<duckdb::LogicalCreate>();
			return Create(*create.info, create.schema);
		}
		case LogicalOperatorType::LOGICAL_DROP: {
			return Drop(*op.Cast<duckdb::LogicalDrop>().info);
		}
		case LogicalOperatorType::LOGICAL_ALTER:
			return Alter(*op.Cast<duckdb::LogicalAlter>().info);
		case LogicalOperatorType::LOGICAL_SET: {
			auto &set = op.Cast<duckdb::LogicalSet>();
			return Setting(set.name, set.scope);
		}
		case LogicalOperatorType::LOGICAL_RESET: {
			auto &reset = op.Cast<duckdb::LogicalReset>();
			return Setting(reset.name, reset.scope);
		}
		case LogicalOperatorType::LOGICAL_CHUNK_GET: {
			// While statements are bound, only DESCRIBE (six columns) and SHOW of a setting (one) make such rows.
			auto &rows = op.Cast<duckdb::LogicalColumnDataGet>();
			return Tell(SHOWN, rows.chunk_types.size() == 1 ? "setting" : "columns", string(), string(), string());
		}
		case LogicalOperatorType::LOGICAL_PRAGMA:
			return Name(PRAGMA, op.Cast<duckdb::LogicalPragma>().info->function.name.GetIdentifierName());
		case LogicalOperatorType::LOGICAL_COPY_TO_FILE:
			return Name(COPY_TO, op.Cast<duckdb::LogicalCopyToFile>().file_path);
		default:
			if (!OnlyComputes(op.type)) {
				Name(OTHER, duckdb::LogicalOperatorToString(op.type));
			}
		}
	}

	// What is not known here is told: a new operator is refused until somebody has thought about it.
	static bool OnlyComputes(LogicalOperatorType type) {
		switch (type) {
		case LogicalOperatorType::LOGICAL_PROJECTION:
		case LogicalOperatorType::LOGICAL_FILTER:
		case LogicalOperatorType::LOGICAL_AGGREGATE_AND_GROUP_BY:
		case LogicalOperatorType::LOGICAL_WINDOW:
		case LogicalOperatorType::LOGICAL_UNNEST:
		case LogicalOperatorType::LOGICAL_LIMIT:
		case LogicalOperatorType::LOGICAL_ORDER_BY:
		case LogicalOperatorType::LOGICAL_TOP_N:
		case LogicalOperatorType::LOGICAL_DISTINCT:
		case LogicalOperatorType::LOGICAL_SAMPLE:
		case LogicalOperatorType::LOGICAL_PIVOT:
		case LogicalOperatorType::LOGICAL_SECURE_VIEW:
		case LogicalOperatorType::LOGICAL_DELIM_GET:
		case LogicalOperatorType::LOGICAL_EXPRESSION_GET:
		case LogicalOperatorType::LOGICAL_DUMMY_SCAN:
		case LogicalOperatorType::LOGICAL_EMPTY_RESULT:
		case LogicalOperatorType::LOGICAL_CTE_REF:
		case LogicalOperatorType::LOGICAL_JOIN:
		case LogicalOperatorType::LOGICAL_DELIM_JOIN:
		case LogicalOperatorType::LOGICAL_COMPARISON_JOIN:
		case LogicalOperatorType::LOGICAL_ANY_JOIN:
		case LogicalOperatorType::LOGICAL_CROSS_PRODUCT:
		case LogicalOperatorType::LOGICAL_POSITIONAL_JOIN:
		case LogicalOperatorType::LOGICAL_ASOF_JOIN:
		case LogicalOperatorType::LOGICAL_DEPENDENT_JOIN:
		case LogicalOperatorType::LOGICAL_UNION:
		case LogicalOperatorType::LOGICAL_EXCEPT:
		case LogicalOperatorType::LOGICAL_INTERSECT:
		case LogicalOperatorType::LOGICAL_RECURSIVE_CTE:
		case LogicalOperatorType::LOGICAL_MATERIALIZED_CTE:
		// The C API's prepared statements; what they run was told when it was bound.
		case LogicalOperatorType::LOGICAL_PREPARE:
		case LogicalOperatorType::LOGICAL_EXECUTE:
		// What a trigger runs stands below it.
		case LogicalOperatorType::LOGICAL_TRIGGER:
		case LogicalOperatorType::LOGICAL_TRANSACTION:
		case LogicalOperatorType::LOGICAL_EXPLAIN:
			return true;
		default:
			return false;
		}
	}

	void Function(duckdb::BoundFunctionExpression &function) {
		auto &children = function.GetChildren();
		if (duckdb::BoundCastExpression::IsCast(function)) {
			// DuckDB's conversion recurses as deeply as the value is nested, and takes the process with it.
			if (function.GetReturnType().id() == duckdb::LogicalTypeId::VARIANT && !children.empty() &&
			    children[0]->GetReturnType().IsJSONType()) {
				Name(VARIANT_OF_JSON, string());
			}
			return;
		}
		string argument;
		if (!children.empty() && children[0]->GetExpressionClass() == duckdb::ExpressionClass::BOUND_CONSTANT) {
			auto &value = children[0]->Cast<duckdb::BoundConstantExpression>().GetValue();
			argument = value.IsNull() ? string() : value.ToString();
		}
		Tell(FUNCTION, argument, string(), string(), function.Function().GetName().GetIdentifierName());
		// The body of a lambda is no child of the function that it is given to.
		auto lambda = dynamic_cast<duckdb::ListLambdaBindData *>(function.BindInfoMutable().get());
		if (lambda && lambda->lambda_expr) {
			Expression(*lambda->lambda_expr);
		}
	}

	void Expression(duckdb::Expression &expression) {
		switch (expression.GetExpressionClass()) {
		case duckdb::ExpressionClass::BOUND_FUNCTION:
			Function(expression.Cast<duckdb::BoundFunctionExpression>());
			break;
		case duckdb::ExpressionClass::BOUND_SUBQUERY: {
			auto &subquery = expression.Cast<duckdb::BoundSubqueryExpression>().SubqueryMutable();
			if (subquery.plan) {
				Plan(*subquery.plan);
			}
			break;
		}
		default:
			break;
		}
		duckdb::ExpressionIterator::EnumerateChildren(expression,
		                                              [&](duckdb::Expression &child) { Expression(child); });
	}

	Decide decide;
	duckdb::ClientContext &context;
};

void PostBind(duckdb::PlannerExtensionInput &input, duckdb::BoundStatement &statement) {
	if (statement.plan) {
		Walk(static_cast<Info &>(*input.info).decide, input.context).Plan(*statement.plan);
	}
}

} // namespace

extern "C" {

// Has every statement of the instance that `connection` (a duckdb_v2_connection_handle) belongs to decided by `decide`.
void merganser_guard_install(void *connection, Decide decide) {
	auto &context = *reinterpret_cast<duckdb::Connection *>(connection)->context;
	duckdb::PlannerExtension extension;
	extension.post_bind_function = PostBind;
	extension.planner_info = duckdb::make_shared_ptr<Info>(decide);
	duckdb::ExtensionCallbackManager::Get(context).Register(std::move(extension));
}

// Takes a table function out of the instance: some read files while they are bound, before a plan could be looked at.
// Answers whether there was one.
bool merganser_guard_remove_function(void *connection, const char *name) {
	auto &context = *reinterpret_cast<duckdb::Connection *>(connection)->context;
	bool removed = false;
	context.RunFunctionInTransaction([&]() {
		auto &catalog = duckdb::Catalog::GetSystemCatalog(context);
		auto &schema = catalog.GetSchema(context, Identifier::DefaultSchema()).Cast<duckdb::DuckSchemaEntry>();
		for (auto type : {duckdb::CatalogType::TABLE_FUNCTION_ENTRY, duckdb::CatalogType::PRAGMA_FUNCTION_ENTRY,
		                  duckdb::CatalogType::SCALAR_FUNCTION_ENTRY}) {
			auto &set = schema.GetCatalogSet(type);
			auto transaction = catalog.GetCatalogTransaction(context);
			if (set.GetEntry(transaction, Identifier(name))) {
				removed |= set.DropEntry(transaction, Identifier(name), true, true);
			}
		}
	});
	return removed;
}
}
