//! What the help of each command ends with.

use credence_command::help::Example;

/// Lines as they can be typed; a command may have several.
pub(super) const EXAMPLES: &[Example] = &[
    ("run", "-config conf/agent/agent.conf"),
    ("run", "-config conf/agent/agent.conf -joinTokenFile token"),
    ("validate", "-config conf/agent/agent.conf -expandEnv"),
    ("healthcheck", "-verbose"),
    ("debug getinfo", "-output json"),
    ("logger get", ""),
    ("logger set", "-level debug"),
    ("logger reset", ""),
    ("api fetch", "-write /run/identity"),
    ("api fetch x509", "-write /run/identity -silent"),
    ("api fetch jwt", "-audience https://api.example.org"),
    (
        "api validate jwt",
        "-audience https://api.example.org -svid eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
    ),
    ("api watch", "-socketPath /run/spire/agent.sock"),
    ("files", "-config helper.conf"),
    ("files", "-config helper.conf -daemon-mode=false"),
    ("files", "-config helper.conf -- nginx -g \"daemon off;\""),
];
