//! `docs/actions.md`: what ListActions of a running server tells, and the messages of `proto/` with their comments.

use std::fmt::Write as _;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{ActionType, Empty};
use futures::TryStreamExt;
use merganser::config::{Config, Environment, Mode};
use merganser::proto::DESCRIPTORS;
use merganser::server::Server;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};
use tonic::transport::Endpoint;

use super::{check, table};

/// Numbers of fields in descriptors, of which paths to comments are made.
const MESSAGE: i32 = 4;
const FIELD: i32 = 2;

/// What ListActions answers.
async fn listed() -> Vec<ActionType> {
    let mut config = Config::default();
    config.database.mode = Mode::Memory;
    "127.0.0.1:0".clone_into(&mut config.server.listen);
    let server = Server::start(config, &Environment::default()).await.expect("the server starts");
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).expect("it is an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        // Sent or dropped: it is time to stop.
        let _ = stopped.await;
    }));
    let mut client = FlightServiceClient::new(endpoint.connect().await.expect("the server is there"));
    let actions = client.list_actions(Empty {}).await.expect("actions are listed").into_inner();
    let actions = actions.try_collect().await.expect("the list is whole");
    drop((client, stop));
    serving.await.expect("the server has not died").expect("it ends well");
    actions
}

/// The messages of `merganser.v1` by their names, with what is said of them.
struct Messages {
    files: Vec<FileDescriptorProto>,
}

impl Messages {
    fn new() -> Self {
        let set = FileDescriptorSet::decode(DESCRIPTORS).expect("the descriptors are those of the build");
        Self { files: set.file.into_iter().filter(|file| file.package() == "merganser.v1").collect() }
    }

    /// The file of a message, its number there, and itself.
    fn find(&self, name: &str) -> Option<(&FileDescriptorProto, usize, &DescriptorProto)> {
        self.files.iter().find_map(|file| {
            let at = file.message_type.iter().position(|message| message.name() == name)?;
            Some((file, at, &file.message_type[at]))
        })
    }

    /// The short words that JSON has for an enum's values.
    fn words(&self, name: &str) -> String {
        let all = self.files.iter().flat_map(|file| &file.enum_type);
        let found =
            all.filter(|known| known.name() == name).flat_map(|known| &known.value).map(EnumValueDescriptorProto::name);
        let names: Vec<&str> = found.collect();
        let prefix = names.first().and_then(|name| name.strip_suffix("UNSPECIFIED")).unwrap_or_default();
        let words =
            names.iter().skip(1).map(|name| format!("`\"{}\"`", name.trim_start_matches(prefix).to_lowercase()));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// What the comment above a message or field says.
fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let info = file.source_code_info.as_ref().expect("the build keeps comments");
    let at = info.location.iter().find(|location| location.path == path);
    let text = at.map(|location| location.leading_comments().trim().replace('\n', " ")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn index(at: usize) -> i32 {
    i32::try_from(at).expect("there are few")
}

/// A field's type in words.
fn type_of(messages: &Messages, field: &FieldDescriptorProto) -> String {
    let last = field.type_name().rsplit('.').next().unwrap_or_default();
    let one = match field.r#type() {
        Type::Message if last == "Timestamp" => "time".to_owned(),
        // What the compiler makes of a map has a name of its own.
        Type::Message if last.ends_with("Entry") => return "map of texts".to_owned(),
        Type::Message => link(last),
        Type::Enum => messages.words(last),
        Type::String => "text".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Bool => "`true` or `false`".to_owned(),
        Type::Double | Type::Float => "number".to_owned(),
        _ => "whole number".to_owned(),
    };
    if field.label() == Label::Repeated { format!("list of {one}") } else { one }
}

fn link(message: &str) -> String {
    format!("[{message}](#{})", message.to_lowercase())
}

/// One of the server's own actions: what it does, its request and its answer.
fn parts(description: &str) -> (&str, &str, &str) {
    let (about, types) = description.split_once(": ").expect("a description has types");
    let (request, answer) = types.split_once(" -> ").expect("types are a request and an answer");
    (about, request, answer)
}

/// The message that `words` name, like `one TableInfo each`, as a link.
fn linked(messages: &Messages, words: &str, used: &mut Vec<String>) -> String {
    let name = words.split(' ').find(|word| messages.find(word).is_some());
    let Some(name) = name else { return words.to_owned() };
    if !used.iter().any(|known| known == name) {
        used.push(name.to_owned());
    }
    words.replace(name, &link(name))
}

/// Adds the messages that are fields of others.
fn with_nested(messages: &Messages, mut used: Vec<String>) -> Vec<String> {
    let mut at = 0;
    while let Some(name) = used.get(at).cloned() {
        let (_, _, message) = messages.find(&name).expect("it was found before");
        for field in &message.field {
            let last = field.type_name().rsplit('.').next().unwrap_or_default().to_owned();
            if field.r#type() == Type::Message && messages.find(&last).is_some() && !used.contains(&last) {
                used.push(last);
            }
        }
        at += 1;
    }
    used
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_every_action() {
    let (messages, actions) = (Messages::new(), listed().await);
    let is_standard = |action: &&ActionType| action.description.starts_with("Flight");
    let mut used = Vec::new();
    let own = actions.iter().filter(|action| !is_standard(action)).map(|action| {
        let (about, request, answer) = parts(&action.description);
        let (request, answer) = (linked(&messages, request, &mut used), linked(&messages, answer, &mut used));
        [format!("`{}`", action.r#type), request, answer, format!("{about}.")]
    });
    let mut text = format!("## Actions of Merganser\n\n{}\n", table(["action", "request", "answer", ""], own));
    let standard = actions.iter().filter(is_standard).map(|action| {
        let (of, about) = action.description.split_once(": ").expect("a description says whose it is");
        [format!("`{}`", action.r#type), of.to_owned(), format!("{}.", capitalized(about))]
    });
    let table_of_standard = table(["action", "of", ""], standard);
    write!(text, "## Actions of Flight and Flight SQL\n\n{table_of_standard}\n## Messages\n\n")
        .expect("a text can be written");
    for name in with_nested(&messages, used) {
        let (file, at, message) = messages.find(&name).expect("it was found before");
        write!(text, "### {name}\n\n{}\n\n", comment(file, &[MESSAGE, index(at)])).expect("a text can be written");
        let field = |(number, field): (usize, &FieldDescriptorProto)| {
            let about = comment(file, &[MESSAGE, index(at), FIELD, index(number)]);
            [format!("`{}`", field.name()), type_of(&messages, field), about]
        };
        if !message.field.is_empty() {
            writeln!(text, "{}", table(["field", "type", ""], message.field.iter().enumerate().map(field)))
                .expect("a text can be written");
        }
    }
    check("actions.md", &text);
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What is not said of a field cannot be made into a page.
#[test]
fn every_message_and_field_has_a_comment() {
    let messages = Messages::new();
    let mut missing = Vec::new();
    for file in &messages.files {
        for (at, message) in file.message_type.iter().enumerate() {
            let whole = (message.name(), vec![MESSAGE, index(at)]);
            let fields = message.field.iter().enumerate();
            let fields = fields.map(|(number, field)| (field.name(), vec![MESSAGE, index(at), FIELD, index(number)]));
            let silent = [whole].into_iter().chain(fields).filter(|(_, path)| comment(file, path).is_empty());
            missing.extend(silent.map(|(name, _)| format!("{} {name}", message.name())));
        }
    }
    assert!(missing.is_empty(), "without a comment: {missing:?}");
}
