//! What gRPC reflection tells: the messages of `merganser.v1`, and Flight's own protocol. arrow-flight has Flight's messages as
//! Rust types and no descriptor of them, so `Flight.proto` is written down here as tables, without its comments.

use std::borrow::Cow;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
};

use Count::{Maybe, Once, Repeated};
use Kind::{Bool, Bytes, Double, Enum, Int64, String, Struct, Time, Uint64};

const FILE: &str = "Flight.proto";
const PACKAGE: &str = "arrow.flight.protocol";
const TIMESTAMP_FILE: &str = "google/protobuf/timestamp.proto";

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    Bytes,
    Double,
    Int64,
    String,
    Uint64,
    /// A `google.protobuf.Timestamp`.
    Time,
    /// An enum of the package.
    Enum(&'static str),
    /// A message of the package.
    Struct(&'static str),
}

/// How often a field is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Once,
    /// `optional`: absent is not zero.
    Maybe,
    Repeated,
}

type Field = (&'static str, i32, Kind, Count);
/// Each value with its number.
type Values = [(&'static str, i32)];

const MESSAGES: &[(&str, &[Field])] = &[
    ("HandshakeRequest", &[("protocol_version", 1, Uint64, Once), ("payload", 2, Bytes, Once)]),
    ("HandshakeResponse", &[("protocol_version", 1, Uint64, Once), ("payload", 2, Bytes, Once)]),
    ("BasicAuth", &[("username", 2, String, Once), ("password", 3, String, Once)]),
    ("Empty", &[]),
    ("ActionType", &[("type", 1, String, Once), ("description", 2, String, Once)]),
    ("Criteria", &[("expression", 1, Bytes, Once)]),
    ("Action", &[("type", 1, String, Once), ("body", 2, Bytes, Once)]),
    ("Result", &[("body", 1, Bytes, Once)]),
    ("SchemaResult", &[("schema", 1, Bytes, Once)]),
    (
        "FlightDescriptor",
        &[
            ("type", 1, Enum("FlightDescriptor.DescriptorType"), Once),
            ("cmd", 2, Bytes, Once),
            ("path", 3, String, Repeated),
        ],
    ),
    (
        "FlightInfo",
        &[
            ("schema", 1, Bytes, Once),
            ("flight_descriptor", 2, Struct("FlightDescriptor"), Once),
            ("endpoint", 3, Struct("FlightEndpoint"), Repeated),
            ("total_records", 4, Int64, Once),
            ("total_bytes", 5, Int64, Once),
            ("ordered", 6, Bool, Once),
            ("app_metadata", 7, Bytes, Once),
        ],
    ),
    (
        "PollInfo",
        &[
            ("info", 1, Struct("FlightInfo"), Once),
            ("flight_descriptor", 2, Struct("FlightDescriptor"), Once),
            ("progress", 3, Double, Maybe),
            ("expiration_time", 4, Time, Once),
        ],
    ),
    ("CancelFlightInfoRequest", &[("info", 1, Struct("FlightInfo"), Once)]),
    ("CancelFlightInfoResult", &[("status", 1, Enum("CancelStatus"), Once)]),
    ("Ticket", &[("ticket", 1, Bytes, Once)]),
    ("Location", &[("uri", 1, String, Once)]),
    (
        "FlightEndpoint",
        &[
            ("ticket", 1, Struct("Ticket"), Once),
            ("location", 2, Struct("Location"), Repeated),
            ("expiration_time", 3, Time, Once),
            ("app_metadata", 4, Bytes, Once),
        ],
    ),
    ("RenewFlightEndpointRequest", &[("endpoint", 1, Struct("FlightEndpoint"), Once)]),
    (
        "FlightData",
        &[
            ("flight_descriptor", 1, Struct("FlightDescriptor"), Once),
            ("data_header", 2, Bytes, Once),
            ("app_metadata", 3, Bytes, Once),
            ("data_body", 1000, Bytes, Once),
        ],
    ),
    ("PutResult", &[("app_metadata", 1, Bytes, Once)]),
];

/// The enum inside of `FlightDescriptor`.
const DESCRIPTOR_TYPE: &Values = &[("UNKNOWN", 0), ("PATH", 1), ("CMD", 2)];
const CANCEL_STATUS: &Values = &[
    ("CANCEL_STATUS_UNSPECIFIED", 0),
    ("CANCEL_STATUS_CANCELLED", 1),
    ("CANCEL_STATUS_CANCELLING", 2),
    ("CANCEL_STATUS_NOT_CANCELLABLE", 3),
];

/// What a method takes or answers, and whether as a stream.
type Side = (&'static str, bool);

/// Each method with its request and its answer.
const METHODS: &[(&str, Side, Side)] = &[
    ("Handshake", ("HandshakeRequest", true), ("HandshakeResponse", true)),
    ("ListFlights", ("Criteria", false), ("FlightInfo", true)),
    ("GetFlightInfo", ("FlightDescriptor", false), ("FlightInfo", false)),
    ("PollFlightInfo", ("FlightDescriptor", false), ("PollInfo", false)),
    ("GetSchema", ("FlightDescriptor", false), ("SchemaResult", false)),
    ("DoGet", ("Ticket", false), ("FlightData", true)),
    ("DoPut", ("FlightData", true), ("PutResult", true)),
    ("DoExchange", ("FlightData", true), ("FlightData", true)),
    ("DoAction", ("Action", false), ("Result", true)),
    ("ListActions", ("Empty", false), ("ActionType", true)),
];

/// The encoded descriptors of `arrow.flight.protocol` and of `merganser.v1`, with all that these refer to.
pub fn descriptors() -> [Cow<'static, [u8]>; 2] {
    // The file of timestamps, which Flight's refers to, is in our own set.
    let flight = FileDescriptorSet { file: vec![flight_file()] };
    [flight.encode_to_vec().into(), crate::proto::DESCRIPTORS.into()]
}

fn flight_file() -> FileDescriptorProto {
    let method =
        |&(name, (input, client_streaming), (output, server_streaming)): &(&str, Side, Side)| MethodDescriptorProto {
            name: Some(name.to_owned()),
            input_type: Some(in_package(input)),
            output_type: Some(in_package(output)),
            client_streaming: Some(client_streaming),
            server_streaming: Some(server_streaming),
            options: None,
        };
    let service = ServiceDescriptorProto {
        name: Some("FlightService".to_owned()),
        method: METHODS.iter().map(method).collect(),
        options: None,
    };
    FileDescriptorProto {
        name: Some(FILE.to_owned()),
        package: Some(PACKAGE.to_owned()),
        dependency: vec![TIMESTAMP_FILE.to_owned()],
        message_type: MESSAGES.iter().map(|(name, fields)| message(name, fields)).collect(),
        enum_type: vec![enumeration("CancelStatus", CANCEL_STATUS)],
        service: vec![service],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn message(name: &str, fields: &[Field]) -> DescriptorProto {
    let mut message = DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() };
    for &(name, number, kind, count) in fields {
        let (of, type_name) = field_type(kind);
        let label = if count == Repeated { Label::Repeated } else { Label::Optional };
        let mut field = FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(label.into()),
            r#type: Some(of.into()),
            type_name,
            ..FieldDescriptorProto::default()
        };
        if count == Maybe {
            // In descriptors, an `optional` field is alone in a oneof of its name. No message has two.
            field.oneof_index = Some(0);
            message.oneof_decl.push(OneofDescriptorProto { name: Some(format!("_{name}")), options: None });
        }
        message.field.push(field);
    }
    if name == "FlightDescriptor" {
        message.enum_type.push(enumeration("DescriptorType", DESCRIPTOR_TYPE));
    }
    message
}

fn field_type(kind: Kind) -> (Type, Option<std::string::String>) {
    match kind {
        Bool => (Type::Bool, None),
        Bytes => (Type::Bytes, None),
        Double => (Type::Double, None),
        Int64 => (Type::Int64, None),
        String => (Type::String, None),
        Uint64 => (Type::Uint64, None),
        Time => (Type::Message, Some(".google.protobuf.Timestamp".to_owned())),
        Enum(name) => (Type::Enum, Some(in_package(name))),
        Struct(name) => (Type::Message, Some(in_package(name))),
    }
}

fn enumeration(name: &str, values: &Values) -> EnumDescriptorProto {
    let value = |&(name, number): &(&str, i32)| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        options: None,
    };
    EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: values.iter().map(value).collect(),
        ..EnumDescriptorProto::default()
    }
}

fn in_package(name: &str) -> std::string::String {
    format!(".{PACKAGE}.{name}")
}

#[cfg(test)]
mod tests {
    use arrow_flight::flight_descriptor::DescriptorType;
    use arrow_flight::{
        Action, ActionType, BasicAuth, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty,
        FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, Location,
        PollInfo, PutResult, RenewFlightEndpointRequest, Result, SchemaResult, Ticket,
    };
    use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
    use prost_types::Timestamp;

    use super::*;

    fn pool() -> DescriptorPool {
        let mut files = Vec::new();
        for set in descriptors() {
            files.extend(FileDescriptorSet::decode(&*set).unwrap().file);
        }
        DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: files }).unwrap()
    }

    // No `..`: a field that a newer arrow-flight adds does not compile here, and is then added to the tables.

    fn descriptor() -> FlightDescriptor {
        FlightDescriptor {
            r#type: DescriptorType::Cmd.into(),
            cmd: "command".into(),
            path: vec!["a".into(), "b".into()],
        }
    }

    fn endpoint() -> FlightEndpoint {
        FlightEndpoint {
            ticket: Some(Ticket { ticket: "ticket".into() }),
            location: vec![Location { uri: "grpc://a".into() }, Location { uri: "grpc://b".into() }],
            expiration_time: Some(Timestamp { seconds: 5, nanos: 6 }),
            app_metadata: "endpoint".into(),
        }
    }

    fn info() -> FlightInfo {
        FlightInfo {
            schema: "schema".into(),
            flight_descriptor: Some(descriptor()),
            endpoint: vec![endpoint()],
            total_records: -1,
            total_bytes: 7,
            ordered: true,
            app_metadata: "info".into(),
        }
    }

    fn poll() -> PollInfo {
        PollInfo {
            info: Some(info()),
            flight_descriptor: Some(descriptor()),
            progress: Some(0.0),
            expiration_time: Some(Timestamp { seconds: 8, nanos: 9 }),
        }
    }

    fn data() -> FlightData {
        FlightData {
            flight_descriptor: Some(descriptor()),
            data_header: "header".into(),
            app_metadata: "metadata".into(),
            data_body: "body".into(),
        }
    }

    /// Each message with a value in every field.
    fn samples() -> Vec<(&'static str, Vec<u8>)> {
        let status = CancelStatus::NotCancellable.into();
        vec![
            ("HandshakeRequest", HandshakeRequest { protocol_version: u64::MAX, payload: "x".into() }.encode_to_vec()),
            ("HandshakeResponse", HandshakeResponse { protocol_version: 1, payload: "x".into() }.encode_to_vec()),
            ("BasicAuth", BasicAuth { username: "u".into(), password: "p".into() }.encode_to_vec()),
            ("Empty", Empty {}.encode_to_vec()),
            ("ActionType", ActionType { r#type: "t".into(), description: "d".into() }.encode_to_vec()),
            ("Criteria", Criteria { expression: "x".into() }.encode_to_vec()),
            ("Action", Action { r#type: "t".into(), body: "x".into() }.encode_to_vec()),
            ("Result", Result { body: "x".into() }.encode_to_vec()),
            ("SchemaResult", SchemaResult { schema: "x".into() }.encode_to_vec()),
            ("FlightDescriptor", descriptor().encode_to_vec()),
            ("FlightInfo", info().encode_to_vec()),
            ("PollInfo", poll().encode_to_vec()),
            ("CancelFlightInfoRequest", CancelFlightInfoRequest { info: Some(info()) }.encode_to_vec()),
            ("CancelFlightInfoResult", CancelFlightInfoResult { status }.encode_to_vec()),
            ("Ticket", Ticket { ticket: "x".into() }.encode_to_vec()),
            ("Location", Location { uri: "x".into() }.encode_to_vec()),
            ("FlightEndpoint", endpoint().encode_to_vec()),
            ("RenewFlightEndpointRequest", RenewFlightEndpointRequest { endpoint: Some(endpoint()) }.encode_to_vec()),
            ("FlightData", data().encode_to_vec()),
            ("PutResult", PutResult { app_metadata: "x".into() }.encode_to_vec()),
        ]
    }

    fn decode(pool: &DescriptorPool, name: &str, bytes: &[u8]) -> DynamicMessage {
        let descriptor = pool.get_message_by_name(&format!("{PACKAGE}.{name}")).unwrap();
        DynamicMessage::decode(descriptor, bytes).unwrap()
    }

    /// Fails if a field of the message is not set, or a value belongs to no field.
    fn assert_whole(message: &DynamicMessage) {
        let name = message.descriptor().full_name().to_owned();
        assert_eq!(message.unknown_fields().count(), 0, "{name}");
        for field in message.descriptor().fields() {
            assert!(message.has_field(&field), "{name}.{}", field.name());
            let value = message.get_field(&field);
            let items = value.as_list().unwrap_or(std::slice::from_ref(&*value));
            items.iter().filter_map(Value::as_message).for_each(assert_whole);
        }
    }

    #[test]
    fn the_tables_are_those_of_arrow_flight() {
        let (pool, samples) = (pool(), samples());
        let names: Vec<_> = samples.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, MESSAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, bytes) in samples {
            let message = decode(&pool, name, &bytes);
            assert_whole(&message);
            assert_eq!(message.encode_to_vec(), bytes, "{name}");
        }
    }

    #[test]
    fn fields_have_their_names_and_types() {
        let pool = pool();
        let info = decode(&pool, "FlightInfo", &info().encode_to_vec());
        let field = |name: &str| info.get_field_by_name(name).unwrap().into_owned();
        assert_eq!(field("schema"), Value::Bytes("schema".into()));
        assert_eq!(field("total_records"), Value::I64(-1));
        assert_eq!(field("total_bytes"), Value::I64(7));
        assert_eq!(field("ordered"), Value::Bool(true));
        assert_eq!(field("app_metadata"), Value::Bytes("info".into()));
        let descriptor = field("flight_descriptor");
        let descriptor = descriptor.as_message().unwrap();
        assert_eq!(descriptor.get_field_by_name("type").unwrap().as_enum_number(), Some(DescriptorType::Cmd.into()));
        let path = descriptor.get_field_by_name("path").unwrap().into_owned();
        assert_eq!(path, Value::List(vec![Value::String("a".into()), Value::String("b".into())]));
        let endpoints = field("endpoint");
        let endpoint = endpoints.as_list().unwrap()[0].as_message().unwrap().clone();
        assert_eq!(endpoint.transcode_to::<FlightEndpoint>().unwrap(), self::endpoint());
        let locations = endpoint.get_field_by_name("location").unwrap().into_owned();
        let uri = locations.as_list().unwrap()[1].as_message().unwrap().get_field_by_name("uri").unwrap().into_owned();
        assert_eq!(uri, Value::String("grpc://b".into()));

        let data = decode(&pool, "FlightData", &data().encode_to_vec());
        assert_eq!(*data.get_field_by_name("data_body").unwrap(), Value::Bytes("body".into()));
        // Zero is not absent.
        let polled = decode(&pool, "PollInfo", &poll().encode_to_vec());
        assert!(polled.has_field_by_name("progress"));
    }

    #[test]
    fn enums_have_their_values() {
        for (name, number) in DESCRIPTOR_TYPE {
            assert_eq!(DescriptorType::from_str_name(name), DescriptorType::try_from(*number).ok());
        }
        for (name, number) in CANCEL_STATUS {
            assert_eq!(CancelStatus::from_str_name(name), CancelStatus::try_from(*number).ok());
        }
        assert!(DescriptorType::try_from(3).is_err() && CancelStatus::try_from(4).is_err());
    }
}
