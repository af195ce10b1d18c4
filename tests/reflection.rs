//! Asks a running server for its services and for the file that describes Flight, as grpcurl and its like do.

use merganser::config::{Config, Environment, Mode};
use merganser::server::Server;
use prost::Message;
use prost_types::{FileDescriptorProto, MethodDescriptorProto};
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const FLIGHT: &str = "arrow.flight.protocol.FlightService";

/// Asks one question.
async fn ask(client: &mut ServerReflectionClient<Channel>, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("the server reflects");
    let answer = answers.into_inner().message().await.expect("the stream goes well").expect("there is an answer");
    answer.message_response.expect("the answer is not empty")
}

fn file(answer: MessageResponse) -> FileDescriptorProto {
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("no file: {answer:?}") };
    FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).expect("it is a file's descriptor")
}

#[tokio::test]
async fn reflection_describes_flight() {
    let mut config = Config::default();
    config.database.mode = Mode::Memory;
    "127.0.0.1:0".clone_into(&mut config.server.listen);
    let server = Server::start(config, &Environment::default()).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        stopped.await.unwrap();
    }));
    let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());

    let MessageResponse::ListServicesResponse(list) =
        ask(&mut client, MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list")
    };
    let services: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in [FLIGHT, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(services.contains(&service), "{service} is not in {services:?}");
    }

    let flight = file(ask(&mut client, MessageRequest::FileContainingSymbol(FLIGHT.to_owned())).await);
    assert_eq!((flight.name(), flight.package()), ("Flight.proto", "arrow.flight.protocol"));
    assert_eq!(flight.message_type.len(), 20);
    let streams = |method: &MethodDescriptorProto| (method.client_streaming(), method.server_streaming());
    let methods: Vec<_> = flight.service[0].method.iter().map(|method| (method.name(), streams(method))).collect();
    assert_eq!(methods.len(), 10);
    assert!(methods.contains(&("DoGet", (false, true))) && methods.contains(&("DoPut", (true, true))));

    // Whatever a file refers to can be asked for, too.
    for name in &flight.dependency {
        assert_eq!(file(ask(&mut client, MessageRequest::FileByFilename(name.clone())).await).name(), name);
    }
    let ours = MessageRequest::FileContainingSymbol("merganser.v1.IngestResult".to_owned());
    assert_eq!(file(ask(&mut client, ours).await).package(), "merganser.v1");

    drop(client);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
