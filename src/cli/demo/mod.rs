//! `merganser demo`: the main job in one command. It is a server like any other, in a temporary database, and a client of it:
//! sample data goes in and results come out over Flight, through the code of `ingest` and `query`.

mod load;
mod sample;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;

use self::sample::Shop;
use super::client::{Client, ServerArgs};
use super::output::{self, Format, RowWriterOptions};
use super::{query, serve};
use crate::config::{Auth, Config, ConfigFlags, Environment, Jwt, Tls};
use crate::error::{Error, Result};
use crate::server::Server;
use crate::telemetry;

/// Time that calls have to finish after ctrl-c: nothing here is worth waiting for.
const GRACE: Duration = Duration::from_secs(2);
const TABLE: RowWriterOptions =
    RowWriterOptions { rows_max: 20, width_max: 60, ..RowWriterOptions::all(Format::Table) };

/// What is asked, and in what SQL.
const QUESTIONS: [(&str, &str); 5] = [
    (
        "What happens in the shop?",
        "SELECT event_name, count(*) AS events, count(DISTINCT distinct_id) AS customers
FROM events GROUP BY event_name ORDER BY events DESC",
    ),
    (
        "From which countries do the events come?",
        "SELECT properties->>'$.country' AS country, count(*) AS events
FROM events GROUP BY country ORDER BY events DESC LIMIT 5",
    ),
    (
        "Which plans bring revenue?",
        "SELECT p.properties->>'$.plan' AS plan, count(*) AS purchases,
       sum((e.properties->>'$.amount')::DECIMAL(10, 2)) AS revenue
FROM events e JOIN profiles p USING (distinct_id)
WHERE event_name = 'purchase' GROUP BY plan ORDER BY revenue DESC",
    ),
    (
        "On which devices? Paths go as deep as the JSON does",
        "SELECT properties->>'$.device.os' AS os, properties->>'$.device.app.version' AS app, count(*) AS events
FROM events GROUP BY os, app ORDER BY events DESC LIMIT 5",
    ),
    (
        "Where did the tables come from?",
        "SELECT table_name, type, row_count, from_date, to_date, fetched_at FROM _metadata ORDER BY table_name",
    ),
];

/// Show what it does: a temporary server, sample data, a few queries
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show what it does: a temporary server, sample data, a few queries\n\n\
    Starts a server with a temporary database, streams the events and profiles of a made-up shop into it over Flight, asks it a \
    few questions in SQL, and keeps serving until ctrl-c. Then the database is deleted",
    after_long_help = "Examples:\n  \
    merganser demo\n  \
    merganser demo --events 1000000 --once"
)]
pub(super) struct Args {
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:8815, or a free port if it is in use]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Make this many events
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=sample::EVENTS_MAX))]
    events: u64,

    /// Exit after the queries, instead of serving on
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args) -> Result<()> {
    // Before anything is made that ctrl-c would leave behind.
    let mut stop = pin!(serve::stop_signal(false)?);
    let mut environment = Environment::of_process();
    let (config, in_use) = configure(&args, &environment)?;
    // Its own client is the first, and is nobody in particular: it has no users file.
    environment.config_directory = None;
    let traces = telemetry::init(&config)?;
    let server = Server::start(config, &environment).await?;
    let uri = serve::uri(&server);
    let (stopping, stopped) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(server.run(async move {
        // Sent or dropped: the demo is over.
        let _ = stopped.await;
    }));
    let shown = tokio::select! {
        shown = show(&uri, in_use.as_deref(), &args) => match shown {
            Ok(()) if !args.once => tokio::select! {
                () = &mut stop => Ok(()),
                // It has something to say, which is heard below.
                () = ended(&mut serving) => Ok(()),
            },
            shown => shown,
        },
        () = &mut stop => Ok(()),
    };
    drop(stopping);
    let ended = serving.await.map_err(|error| Error::internal("the server died").with_source(error));
    traces.stop().await;
    ended??;
    shown?;
    output::print("\nstopped: the server and its database are gone")
}

async fn ended<T>(serving: &mut tokio::task::JoinHandle<T>) {
    while !serving.is_finished() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The user's own configuration, but for a temporary database and a quiet log; and the address that is in use, if that is the
/// reason for another port.
fn configure(args: &Args, environment: &Environment) -> Result<(Config, Option<String>)> {
    let flags = ConfigFlags { ephemeral: true, listen: args.listen.clone(), ..ConfigFlags::default() };
    let loaded = Config::load(&flags, environment)?;
    let log_chosen = loaded.origin("log.filter") != "default";
    let mut config = loaded.config;
    config.server.shutdown_grace = GRACE;
    (config.auth, config.jwt) = (Auth::default(), Jwt::default());
    // It may be that of a server that runs.
    config.ops.listen.clear();
    // Its own client is the first, and has no certificate to trust.
    config.tls = Tls::default();
    if !log_chosen {
        "warn".clone_into(&mut config.log.filter);
    }
    let listen = config.server.listen.clone();
    match listen.rsplit_once(':') {
        Some((host, _)) if args.listen.is_none() && is_in_use(&listen) => {
            config.server.listen = format!("{host}:0");
            Ok((config, Some(listen)))
        }
        _ => Ok((config, None)),
    }
}

fn is_in_use(listen: &str) -> bool {
    TcpListener::bind(listen).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// Streams the sample data in, and the answers out.
async fn show(uri: &str, in_use: Option<&str>, args: &Args) -> Result<()> {
    output::print(&format!("listening on {uri}"))?;
    if let Some(address) = in_use {
        output::print(&format!("({address} is in use by another program, so this is a free port)"))?;
    }
    let mut client = Client::connect(&ServerArgs::at(uri)).await?;
    output::print("\nA made-up shop's data goes into a temporary database, over Flight:")?;
    load::load(&client, Shop::new(args.events)).await?;
    for (question, sql) in QUESTIONS {
        output::print(&format!("\n{question}\n\n{sql}\n"))?;
        let rows = client.query(sql.to_owned()).await?;
        query::write_rows(rows, TABLE, output::stdout()).await?;
    }
    if args.once { Ok(()) } else { output::print(&format!("\n{}", how_to_connect(uri))) }
}

fn how_to_connect(uri: &str) -> String {
    format!(
        "Still serving, until ctrl-c. Your turn, in another terminal:\n\n  \
         merganser query --server {uri} \"SELECT * FROM events LIMIT 5\"\n\n\
         or in Python, after pip install adbc-driver-flightsql pyarrow:\n\n  \
         import adbc_driver_flightsql.dbapi as flight_sql\n  \
         connection = flight_sql.connect(\"{uri}\", autocommit=True)\n  \
         print(connection.execute(\"SELECT * FROM events LIMIT 5\").fetch_arrow_table())"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: Option<&str>) -> Args {
        Args { listen: listen.map(str::to_owned), events: 1, once: true }
    }

    fn environment(listen: &str) -> Environment {
        let variables = [("MERGANSER_SERVER_LISTEN".to_owned(), listen.to_owned())].into();
        Environment { variables, ..Environment::default() }
    }

    #[test]
    fn a_default_port_in_use_is_said() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let (config, in_use) = configure(&args(None), &environment(&address)).unwrap();
        assert_eq!((config.server.listen.as_str(), in_use), ("127.0.0.1:0", Some(address.clone())));

        // Whoever asks for an address gets that one, or the error of it.
        let (config, in_use) = configure(&args(Some(&address)), &Environment::default()).unwrap();
        assert_eq!((&config.server.listen, in_use), (&address, None));

        drop(taken);
        let (config, in_use) = configure(&args(None), &environment(&address)).unwrap();
        assert_eq!((&config.server.listen, in_use), (&address, None));
        assert_eq!(config.log.filter, "warn");
    }
}
