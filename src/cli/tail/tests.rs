//! What the arguments mean; what a tail prints is tested against a server, in tests/cli.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Outer {
    #[command(flatten)]
    args: Args,
}

fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
    Outer::try_parse_from(["tail", "events"].iter().chain(arguments)).map(|outer| outer.args)
}

#[test]
fn times_have_bounds() {
    let args = parse(&["--since", "10m", "--interval", "250ms"]).unwrap();
    assert_eq!((args.since, args.interval), (Some(Duration::from_mins(10)), Duration::from_millis(250)));
    assert_eq!(parse(&[]).unwrap().interval, Duration::from_secs(1));
    for bad in [
        &["--interval", "99ms"][..],
        &["--interval", "2h"],
        &["--interval", "soon"],
        &["--lines", "1000001"],
        &["--since", "1m", "--lines", "1"],
        &["--format", "parquet"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn some_errors_pass() {
    for (kind, passes) in [
        (ErrorKind::Unavailable, true),
        (ErrorKind::ResourceExhausted, true),
        (ErrorKind::InvalidArgument, false),
        (ErrorKind::PermissionDenied, false),
    ] {
        assert_eq!(may_pass(&Error::new(kind, "x")), passes, "{kind:?}");
    }
}
