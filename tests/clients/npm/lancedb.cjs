// @lancedb/arrow-flight-sql-client against the server given: asserts, and prints what it did.
//
// It takes no message of more than 4 MiB, and offers queries only.
const assert = require("node:assert");
const { Client } = require("@lancedb/arrow-flight-sql-client");

const [host, port, username, password] = process.argv.slice(2);

async function main() {
  const options = { host: `${host}:${port}`, username, password, insecure: true };
  const client = await Client.connect(options);
  console.log("connect");

  const objects = async (sql) => (await client.query(sql)).collectToObjects();
  assert.deepStrictEqual((await objects("SELECT range AS n FROM range(3)")).map((row) => row.n), [0n, 1n, 2n]);
  assert.deepStrictEqual(await objects("SELECT 1 AS n WHERE false"), []);
  // 120 MB, none of whose messages may be larger than 4 MiB.
  let rows = 0;
  for await (const batch of (await client.query("SELECT repeat('x', 1000) AS s FROM range(120000)")).toArrowStream()) {
    rows += batch.numRows;
  }
  assert.strictEqual(rows, 120000);
  console.log("queries");

  await objects("CREATE TABLE lancedb_t (n INTEGER)");
  await objects("INSERT INTO lancedb_t VALUES (1), (2)");
  assert.deepStrictEqual((await objects("SELECT count(*) AS n FROM lancedb_t")).map((row) => row.n), [2n]);
  console.log("updates");

  await assert.rejects(objects("SELECT * FROM nowhere"), /nowhere/);
  if (username === "alice") {
    await assert.rejects(async () => {
      const stranger = await Client.connect({ ...options, password: "wrong" });
      await (await stranger.query("SELECT 1")).collectToObjects();
    });
  }
  console.log("errors");
  console.log("done");
  // It has no way to close its channel.
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
