//! Real Redis servers, alone or three as a cluster, and what may befall them.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use harness::{installed, send_signal, within};
use redis::{Client, FromRedisValue, RedisResult, aio::MultiplexedConnection};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

/// Options of a server that has on its disk whatever it has acknowledged.
pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Outside the range of ports that the kernel gives to clients: it stays free while the server is down.
const PORT: u16 = 7379;
const TLS_PORT: &str = "7380";

/// How often to ask for what nobody tells.
const POLL: Duration = Duration::from_millis(5);

/// A `redis-server` on an address of its own, with its files in a folder of its own, until it is dropped.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub addr: SocketAddr,
    options: Vec<String>,
    folder: TempDir,
    child: Child,
}

/// An address of this machine that nobody else uses.
pub fn own_address() -> IpAddr {
    let [a, b, c]: [u8; 3] = rand::random();
    [127, a.max(1), b, c.clamp(1, 254)].into()
}

impl Redis {
    /// Starts one with these options of its command line; says so and returns nothing where it is not
    /// installed.
    pub async fn start(options: &[&str]) -> Option<Self> {
        Self::start_at(own_address(), options).await
    }

    /// Starts one on an address that is known beforehand, as certificates need it.
    pub async fn start_at(address: IpAddr, options: &[&str]) -> Option<Self> {
        installed("redis-server")?;
        let folder = TempDir::new().expect("a folder");
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let child = spawn(address, &folder, &options);
        let mut redis = Self {
            addr: (address, PORT).into(),
            options,
            folder,
            child,
        };
        redis.answers().await;
        Some(redis)
    }

    /// Its URL, without a password.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Its URL with TLS, for which it needs the options of [`tls`].
    pub fn tls_url(&self) -> String {
        format!("rediss://{}:{TLS_PORT}", self.addr.ip())
    }

    /// Kills it as `kill -9` does.
    pub async fn kill(&mut self) {
        within(self.child.kill()).await.expect("killed");
    }

    /// Starts it again with what is on its disk.
    pub async fn restart(&mut self) {
        self.child = spawn(self.addr.ip(), &self.folder, &self.options);
        self.answers().await;
    }

    /// Starts it again with nothing.
    pub async fn restart_empty(&mut self) {
        fs::remove_dir_all(self.folder.path()).expect("removed");
        fs::create_dir(self.folder.path()).expect("a folder");
        self.restart().await;
    }

    /// Sends a signal: STOP, and it answers nobody until CONT.
    pub fn signal(&self, signal: Signal) {
        send_signal(&self.child, signal);
    }

    /// A connection of its own.
    pub async fn connect(&self) -> MultiplexedConnection {
        let password = self.options.iter().position(|name| name == "--requirepass");
        let credentials = password
            .map(|at| format!(":{}@", self.options[at + 1]))
            .unwrap_or_default();
        let client = Client::open(format!("redis://{credentials}{}", self.addr)).expect("a URL");
        within(client.get_multiplexed_async_connection())
            .await
            .expect("a connection")
    }

    /// What it says to a command that it does not refuse.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let answer: RedisResult<T> = self.try_ask(command).await;
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// What it says to a command.
    pub async fn try_ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut connection = self.connect().await;
        let (name, arguments) = command.split_first().expect("a command");
        let mut command = redis::cmd(name);
        command.arg(arguments);
        within(command.query_async(&mut connection)).await
    }

    /// Waits until it answers to a PING, be it that it wants a password.
    async fn answers(&mut self) {
        within(async {
            loop {
                if let Some(end) = self.child.try_wait().expect("a process") {
                    let said = fs::read_to_string(self.folder.path().join("log"));
                    panic!("redis-server: {end}: {}", said.unwrap_or_default());
                }
                match ping(self.addr).await.as_deref() {
                    Ok("+PONG\r\n") => return,
                    Ok(line) if line.starts_with("-NOAUTH") => return,
                    _ => sleep(POLL).await,
                }
            }
        })
        .await;
    }
}

fn spawn(address: IpAddr, folder: &TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", &address.to_string(), "--port", &PORT.to_string()])
        .args(["--save", "", "--logfile", "log", "--dir"])
        .arg(folder.path())
        // Replicas need not wait for others to join them.
        .args(["--repl-diskless-sync-delay", "0"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server")
}

async fn ping(addr: SocketAddr) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(addr).await?);
    stream.write_all(b"PING\r\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line)
}

/// The options for TLS with these PEM files; clients need no certificate.
pub fn tls<'a>(cert: &'a str, key: &'a str, ca: &'a str) -> [&'a str; 10] {
    [
        "--tls-port",
        TLS_PORT,
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        ca,
        "--tls-auth-clients",
        "no",
    ]
}

/// Three servers that share the slots of a cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: [Redis; 3],
}

impl Cluster {
    /// Starts one with these options for each node; says so and returns nothing where `redis-server` is
    /// not installed.
    pub async fn start(options: &[&str]) -> Option<Self> {
        let nodes = [
            Self::node(options).await?,
            Self::node(options).await?,
            Self::node(options).await?,
        ];
        let slots = [("0", "5460"), ("5461", "10921"), ("10922", "16383")];
        for ((node, (first, last)), epoch) in nodes.iter().zip(slots).zip(["1", "2", "3"]) {
            let () = node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]).await;
            let () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        }
        for other in &nodes[1..] {
            let (ip, port) = (other.addr.ip().to_string(), other.addr.port().to_string());
            let () = nodes[0].ask(&["CLUSTER", "MEET", &ip, &port]).await;
        }
        let cluster = Self { nodes };
        cluster.agrees().await;
        Some(cluster)
    }

    async fn node(options: &[&str]) -> Option<Redis> {
        let address = own_address();
        let ip = address.to_string();
        let own = ["--cluster-enabled", "yes", "--cluster-announce-ip", &ip];
        Redis::start_at(address, &[&own, options].concat()).await
    }

    /// Waits until every node knows every other and serves its slots.
    async fn agrees(&self) {
        within(async {
            for node in &self.nodes {
                loop {
                    let info: String = node.ask(&["CLUSTER", "INFO"]).await;
                    let says = |line: &str| info.lines().any(|said| said == line);
                    if says("cluster_state:ok") && says("cluster_known_nodes:3") {
                        break;
                    }
                    sleep(POLL).await;
                }
            }
        })
        .await;
    }

    /// Which node has the slot of this key, as long as none was moved.
    pub async fn owner(&self, key: &str) -> usize {
        let slot: usize = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        (slot / 5461).min(2)
    }

    /// Moves the slot of this key and what is in it, up to where only its owners know that it is moved:
    /// clients that ask the old one are sent on.
    pub async fn begin_move(&self, key: &str, from: usize, to: usize) {
        let (old, new) = (&self.nodes[from], &self.nodes[to]);
        let slot = self.slot(key).await;
        let set = async |node: &Redis, state, other: &Redis| {
            let id: String = other.ask(&["CLUSTER", "MYID"]).await;
            let () = node.ask(&["CLUSTER", "SETSLOT", &slot, state, &id]).await;
        };
        set(new, "IMPORTING", old).await;
        set(old, "MIGRATING", new).await;
        let keys: Vec<String> = old.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
        let (ip, port) = (new.addr.ip().to_string(), new.addr.port().to_string());
        let mut migrate = vec!["MIGRATE", &ip, &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        let () = old.ask(&migrate).await;
    }

    /// Tells every node of the move.
    pub async fn end_move(&self, key: &str, to: usize) {
        let slot = self.slot(key).await;
        let id: String = self.nodes[to].ask(&["CLUSTER", "MYID"]).await;
        // The new owner first: should it fail now, the others do not point to one that does not know.
        for node in [&self.nodes[to]].into_iter().chain(&self.nodes) {
            let () = node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
        }
    }

    /// Has clients reach this node by another port of its address.
    pub async fn announce(&self, node: usize, port: u16) {
        let bus = (self.nodes[node].addr.port() + 10_000).to_string();
        for (setting, value) in [
            ("cluster-announce-bus-port", &bus),
            ("cluster-announce-port", &port.to_string()),
        ] {
            let () = self.nodes[node]
                .ask(&["CONFIG", "SET", setting, value])
                .await;
        }
        let announced = format!(":{port}@");
        within(async {
            for node in &self.nodes {
                while !(node.ask::<String>(&["CLUSTER", "NODES"]).await).contains(&announced) {
                    sleep(POLL).await;
                }
            }
        })
        .await;
    }

    async fn slot(&self, key: &str) -> String {
        let slot: u16 = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        slot.to_string()
    }
}
