//! Bytes of a stranger's against the whole service: each input is a call of the Flight service, framed as gRPC has it, through the
//! same layers that a connection's calls go through. `tests/fuzz/run` builds and runs it; libFuzzer makes the inputs.
//!
//! What it looks for: a panic anywhere, a crash, a hang, memory beyond libFuzzer's limit, and an answer of INTERNAL, which is a bug
//! by definition (but for statements, where DuckDB has some of its own).
#![no_main]

mod inputs;

use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use merganser::access::Authority;
use merganser::config::{Config, Environment};
use merganser::engine::{Database, Engine};
use merganser::flight::Service;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tower::ServiceExt;

use inputs::Target;

/// gRPC's number of INTERNAL.
const INTERNAL: &str = "13";

struct Harness {
    runtime: Runtime,
    service: Service,
    authority: Authority,
    target: Target,
}

static HARNESS: LazyLock<Harness> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target: tests/fuzz/run sets it");
    let target = Target::from_name(&name).unwrap_or_else(|| panic!("there is no target {name:?}"));
    if let Some(directory) = std::env::var_os("FUZZ_SEEDS") {
        inputs::write_seeds(target, directory.as_ref());
        std::process::exit(0);
    }
    let mut config = Config::default();
    config.engine.memory_limit = bytesize::ByteSize::mib(256);
    config.engine.query_timeout = std::time::Duration::from_secs(2);
    config.query.result_bytes_max = bytesize::ByteSize::mib(8);
    let runtime = Runtime::new().expect("a runtime");
    let service = {
        let _entered = runtime.enter();
        let database = Database { path: None, temp_directory: None, read_only: false };
        let engine = Engine::open(&config, database).expect("a database in memory");
        Service::new(engine, &config, "memory")
    };
    let authority = Authority::open(&config, &Environment::default()).expect("nobody is known");
    let harness = Harness { runtime, service, authority, target };
    for sql in inputs::TABLES {
        harness.call("DoGet", &[inputs::ticket(sql)]);
    }
    harness
});

impl Harness {
    /// Makes a call of these messages; answers its status.
    fn call(&self, method: &str, messages: &[Vec<u8>]) -> String {
        let mut body = BytesMut::new();
        for message in messages {
            body.put_u8(0);
            body.put_u32(u32::try_from(message.len()).expect("libFuzzer's inputs are short"));
            body.put_slice(message);
        }
        let request = Request::builder()
            .method("POST")
            .uri(format!("http://localhost/arrow.flight.protocol.FlightService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Full::new(Bytes::from(body))))
            .expect("a request");
        self.runtime.block_on(async {
            let server = self.service.clone().into_server(self.authority.clone());
            let response = server.oneshot(request).await.expect("the service answers");
            let (head, body) = response.into_parts();
            let trailers = body.collect().await.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
            let status = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
            status.and_then(|status| status.to_str().ok()).unwrap_or_default().to_owned()
        })
    }
}

fuzz_target!(|data: &[u8]| {
    let harness = &*HARNESS;
    let (method, messages) = harness.target.call(data);
    let status = harness.call(method, &messages);
    assert!(status != INTERNAL || harness.target == Target::Statement, "{method} was answered INTERNAL");
});
