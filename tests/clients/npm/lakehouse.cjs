// @lakehouse-rs/flight-sql-client, which is arrow-rs' client of 2023 below node, against the server given: asserts, and prints
// what it did.
//
// Of an error it tells only which step failed, and not what the server said.
const assert = require("node:assert");
const { tableFromIPC } = require("apache-arrow");
const { createFlightSqlClient } = require("@lakehouse-rs/flight-sql-client");

const [host, port, username, password] = process.argv.slice(2);

async function main() {
  const options = { host, port: Number(port), tls: false, headers: [], username, password };
  const client = await createFlightSqlClient(options);
  console.log("connect");

  const rows = async (sql) => tableFromIPC(await client.query(sql)).toArray();
  assert.deepStrictEqual((await rows("SELECT range AS n FROM range(3)")).map((row) => row.n), [0n, 1n, 2n]);
  assert.strictEqual(tableFromIPC(await client.query("SELECT 1 AS n WHERE false")).numRows, 0);
  const many = tableFromIPC(await client.query("SELECT range AS n, repeat('x', 100) AS s FROM range(200000)"));
  assert.strictEqual(many.numRows, 200000);
  console.log("queries");

  await client.query("CREATE TEMP TABLE lakehouse_own AS SELECT 7 AS n");
  assert.deepStrictEqual((await rows("SELECT n FROM lakehouse_own")).map((row) => row.n), [7]);
  await client.query("CREATE TABLE lakehouse_t (n INTEGER)");
  await client.query("INSERT INTO lakehouse_t VALUES (1), (2)");
  assert.deepStrictEqual((await rows("SELECT count(*) AS n FROM lakehouse_t")).map((row) => row.n), [2n]);
  console.log("updates");

  const column = async (answer, name) => tableFromIPC(await answer).toArray().map((row) => row[name]);
  assert.ok((await column(client.getCatalogs(), "catalog_name")).includes("merganser"));
  assert.ok((await column(client.getDbSchemas({ dbSchemaFilterPattern: "ma%" }), "db_schema_name")).includes("main"));
  const wanted = { tableNameFilterPattern: "lakehouse\\_%", tableTypes: ["BASE TABLE"], includeSchema: true };
  assert.deepStrictEqual(await column(client.getTables(wanted), "table_name"), ["lakehouse_t"]);
  console.log("metadata");

  await assert.rejects(client.query("SELECT * FROM nowhere"), /failed to prepare statement/);
  if (username === "alice") {
    await assert.rejects(createFlightSqlClient({ ...options, password: "wrong" }));
  }
  console.log("errors");
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
