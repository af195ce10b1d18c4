// @firetiger-oss/flight-sql-client against the server given: asserts, and prints what it did.
//
// It sends Basic with every call and never changes to the token, and waits for the message of the handshake. Its getCatalogs,
// getSchemas, getTableTypes, prepare and key functions send their commands without the Any that the protocol wants: no server
// can know them, so they are not called here. Its getQuerySchema is one of these.
const assert = require("node:assert");
const { FlightSQLClient } = require("@firetiger-oss/flight-sql-client");

const [host, port, username, password] = process.argv.slice(2);

async function main() {
  const client = new FlightSQLClient({ host, port: Number(port), plaintext: true, username, password });
  await client.connect();
  console.log("connect");

  const table = await client.execute("SELECT range AS n, 'row ' || range AS s FROM range(3)");
  assert.deepStrictEqual(table.toArray().map((row) => [row.n, row.s]), [[0n, "row 0"], [1n, "row 1"], [2n, "row 2"]]);
  const empty = await client.execute("SELECT 1 AS n WHERE false");
  assert.strictEqual(empty.numRows, 0);
  const many = await client.execute("SELECT range AS n, repeat('x', 100) AS s FROM range(200000)");
  assert.strictEqual(many.numRows, 200000);
  console.log("queries");

  await client.execute("CREATE TABLE firetiger_t (n INTEGER, s VARCHAR)");
  await client.execute("INSERT INTO firetiger_t VALUES (1, 'a'), (2, NULL)");
  const [row] = (await client.execute("SELECT count(*) AS n FROM firetiger_t")).toArray();
  assert.strictEqual(row.n, 2n, "an update runs once");
  console.log("updates");

  const tables = await client.getTables("merganser", "main", "firetiger%", ["TABLE"]);
  assert.deepStrictEqual(tables.map((found) => [found.schema, found.tableName]), [["main", "firetiger_t"]]);
  console.log("metadata");

  await assert.rejects(client.execute("SELECT * FROM nowhere"), /nowhere/);
  await assert.rejects(client.execute("SELEC 1"), /SELEC/);
  console.log("errors");

  if (username === "alice") {
    const stranger = new FlightSQLClient({ host, port: Number(port), plaintext: true, username, password: "wrong" });
    await assert.rejects(stranger.connect());
    const nobody = new FlightSQLClient({ host, port: Number(port), plaintext: true });
    await assert.rejects(nobody.execute("SELECT 1"));
    console.log("refusals");
  }
  await client.close();
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
