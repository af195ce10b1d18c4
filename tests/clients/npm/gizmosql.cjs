// @gizmodata/gizmosql-client against the server given: asserts, and prints what it did.
//
// Its getQuerySchema, prepare, executePrepared and closePrepared send descriptors where the protocol wants actions, as
// firetiger's do (it grew out of it), and are not called here.
const assert = require("node:assert");
const { FlightSQLClient } = require("@gizmodata/gizmosql-client");

const [host, port, username, password] = process.argv.slice(2);

async function main() {
  const client = new FlightSQLClient({ host, port: Number(port), plaintext: true, username, password });
  await client.connect();
  console.log("connect");

  const table = await client.execute("SELECT range AS n, [range] AS l FROM range(3)");
  assert.deepStrictEqual(table.toArray().map((row) => [row.n, [...row.l]]), [[0n, [0n]], [1n, [1n]], [2n, [2n]]]);
  const types = await client.execute("SELECT true AS b, 1.5::DOUBLE AS d, DATE '2024-01-02' AS t, 'ä🦆' AS s, NULL AS n");
  const [row] = types.toArray();
  assert.deepStrictEqual([row.b, row.d, row.s, row.n], [true, 1.5, "ä🦆", null]);
  console.log("queries");

  await client.execute("CREATE TABLE gizmo_a (x INTEGER, y INTEGER, PRIMARY KEY (y, x))");
  await client.execute("CREATE TABLE gizmo_b (x INTEGER, y INTEGER, FOREIGN KEY (y, x) REFERENCES gizmo_a (y, x))");
  await client.execute("INSERT INTO gizmo_a VALUES (1, 2)");
  const [count] = (await client.execute("SELECT count(*) AS n FROM gizmo_a")).toArray();
  assert.strictEqual(count.n, 1n, "an update runs once");
  console.log("updates");

  assert.ok((await client.getCatalogs()).includes("merganser"));
  assert.deepStrictEqual(
    (await client.getSchemas("merganser")).filter((found) => found.schema === "main"),
    [{ catalog: "merganser", schema: "main" }],
  );
  const tables = await client.getTables(undefined, undefined, "gizmo%");
  assert.deepStrictEqual(tables.map((found) => found.tableName), ["gizmo_a", "gizmo_b"]);
  assert.ok((await client.getTableTypes()).includes("VIEW"));
  assert.strictEqual(typeof client.getPrimaryKeys, "function");
  const info = await client.getSqlInfo([0, 1, 8, 503]);
  assert.match(info.get(1), /^duckdb v2/);
  assert.strictEqual((await client.getSqlInfo()).get(504), '"');
  assert.ok((await client.listActions()).some((kind) => kind.getType() === "CloseSession"));
  console.log("metadata");

  await assert.rejects(client.execute("SELECT * FROM nowhere"), /nowhere/);
  console.log("errors");

  await client.close();
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
