// What a bound statement does, told item by item to Rust, which decides: `engine/guard/mod.rs`.
//
// DuckDB calls a planner extension with each plan that it has bound: after views, macros, CTEs and query('...') have become
// operators, and before anything is optimized or run. No spelling of a statement hides what it reads and writes here.
//
// This file only walks the plan. It links against the very DuckDB that it is compiled with (libduckdb-sys is pinned), because
// it reads internal classes.

#include "duckdb.hpp"
#include "duckdb/catalog/catalog_entry/duck_schema_entry.hpp"
#include "duckdb/catalog/catalog_entry/schema_catalog_entry.hpp"
#include "duckdb/catalog/catalog_entry/table_catalog_entry.hpp"
#include "duckdb/catalog/duck_catalog.hpp"
#include "duckdb/function/lambda_functions.hpp"
#include "duckdb/main/connection.hpp"
#include "duckdb/parser/parsed_data/bound_pragma_info.hpp"
#include "duckdb/parser/parsed_data/copy_info.hpp"
#include "duckdb/parser/parsed_data/create_index_info.hpp"
#include "duckdb/planner/expression/bound_aggregate_expression.hpp"
#include "duckdb/planner/expression/bound_cast_expression.hpp"
#include "duckdb/planner/expression/bound_constant_expression.hpp"
#include "duckdb/planner/expression/bound_function_expression.hpp"
#include "duckdb/planner/expression/bound_subquery_expression.hpp"
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
	SHOWN = 11, // `what` tells what was shown
	OTHER = 12, // name of the operator
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

class Walk {
public:
	explicit Walk(Decide decide) : decide(decide) {
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
		Tell(kind, what, table.ParentCatalog().GetName().GetIdentifierName(),
		     table.ParentSchema().name.GetIdentifierName(), table.name.GetIdentifierName());
	}

	void Entry(Kind kind, duckdb::CatalogType type, const duckdb::QualifiedName &name) {
		Tell(kind, duckdb::CatalogTypeToString(type), name.Catalog().GetIdentifierName(),
		     name.Schema().GetIdentifierName(), name.Name().GetIdentifierName());
	}

	void Create(duckdb::CreateInfo &info, duckdb::optional_ptr<duckdb::SchemaCatalogEntry> schema) {
		auto &name = info.GetQualifiedName();
		auto catalog = name.Catalog().GetIdentifierName();
		auto schema_name = name.Schema().GetIdentifierName();
		if (schema) {
			catalog = schema->ParentCatalog().GetName().GetIdentifierName();
			schema_name = schema->name.GetIdentifierName();
		}
		if (info.temporary) {
			catalog = "temp";
		}
		Tell(CREATE, duckdb::CatalogTypeToString(info.type), catalog, schema_name, name.Name().GetIdentifierName());
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
			return Create(create.info->Base(), &create.schema);
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
			auto &info = *op.Cast<duckdb::LogicalDrop>().info;
			return Entry(DROP, info.type, info.GetQualifiedName());
		}
		case LogicalOperatorType::LOGICAL_ALTER: {
			auto &info = *op.Cast<duckdb::LogicalAlter>().info;
			return Entry(ALTER, info.GetCatalogType(), info.GetQualifiedName());
		}
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
};

void PostBind(duckdb::PlannerExtensionInput &input, duckdb::BoundStatement &statement) {
	if (statement.plan) {
		Walk(static_cast<Info &>(*input.info).decide).Plan(*statement.plan);
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
