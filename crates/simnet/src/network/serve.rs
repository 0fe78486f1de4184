//! The listeners and their connections.

use super::accounts::Counting;
use super::cars::{Cars, Source, commit_car};
use super::fault::{Fault, Switches};
use super::log::Log;
use super::meter::{Meter, window};
use super::settings::NetworkSettings;
use super::subscribe::Teller;
use super::world::World;
use super::{lists, pds, plan, plc, relay, subscribe};
use crate::Population;
use crate::answer::{self, Answer};
use crate::request::{self, Request};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::block_in_place;

/// Commits that the relay's log begins with, of repos of no more than so many records.
const FIRST_EVENTS: usize = 50;
const SMALL_REPO: usize = 1000;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Who listens.
#[derive(Clone)]
enum Role {
    /// PDSes of one address; by the `Host` header, if there are several.
    Hosts(Vec<usize>),
    Relay,
    Plc,
    WellKnown,
}

/// The servers of a network. They end with the value.
pub(super) struct Servers {
    runtime: Option<Runtime>,
    relay: SocketAddr,
    plc: SocketAddr,
    well_known: SocketAddr,
    /// The dead host, and the socket that keeps its port without listening.
    dead: Mutex<Option<(usize, TcpSocket)>>,
}

/// Starts the network of these settings.
pub(super) fn start(settings: NetworkSettings) -> (Arc<World>, Servers) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads for the practice network");
    let repos = settings.repos + settings.hostile_accounts;
    let population = Population::new(settings.seed, repos, settings.records);
    let sizes = plan::sizes(&settings);
    let mut hosts = plan::hosts(&settings, &sizes);
    let (mut listeners, mut dead, mut meters) = (Vec::new(), None, Vec::new());
    // Where in the list of listeners the shared address is, and which host was its first.
    let mut shared: Option<(usize, usize)> = None;
    // A host beside which others are, and where in the list of listeners it is.
    let neighbor = hosts.iter().find_map(|host| host.beside);
    let mut neighbor_listener = 0;
    for (number, host) in hosts.iter_mut().enumerate() {
        let mut meter = Meter::new();
        if host.fault == Some(Fault::DeadHost) {
            let socket = reserve(settings.address);
            host.authority = socket
                .local_addr()
                .expect("the address of the dead host")
                .to_string();
            dead = Some((number, socket));
        } else if host.counting == Counting::Shared {
            let (listener, first) = *shared.get_or_insert((listeners.len(), number));
            if first == number {
                listeners.push((bind(&runtime, settings.address), Role::Hosts(Vec::new())));
            } else if let Some(first) = meters.get(first) {
                meter = Meter::beside(first);
            }
            let (socket, role) = &mut listeners[listener];
            if let Role::Hosts(names) = role {
                let name = ["a", "b", "c"].get(names.len()).unwrap_or(&"d");
                host.authority = format!("{name}.localhost:{}", address(socket).port());
                names.push(number);
            }
        } else if host.beside.is_some() {
            let (socket, role) = &mut listeners[neighbor_listener];
            if let Role::Hosts(names) = role {
                host.authority =
                    format!("evil{}.localhost:{}", names.len(), address(socket).port());
                names.push(number);
            }
        } else {
            let listener = bind(&runtime, settings.address);
            host.authority = address(&listener).to_string();
            if neighbor == Some(number) {
                host.authority = format!("good.localhost:{}", address(&listener).port());
                neighbor_listener = listeners.len();
            }
            listeners.push((listener, Role::Hosts(vec![number])));
        }
        meters.push(meter);
    }
    let others = [Role::Relay, Role::Plc, Role::WellKnown].map(|role| {
        let listener = bind(&runtime, settings.address);
        let address = address(&listener);
        listeners.push((listener, role));
        address
    });
    let state = plan::state(&settings, &population, &sizes, hosts);
    let switches = Switches::default();
    switches.set(&settings.faults);
    let world = Arc::new(World {
        population,
        switches,
        cars: Cars::default(),
        meters,
        changing: Mutex::default(),
        changes_at_lists: AtomicUsize::default(),
        lists: AtomicU64::default(),
        drops: AtomicUsize::default(),
        delays: watch::Sender::default(),
        state: Mutex::new(state),
        settings,
    });
    fill_log(&world);
    for (listener, role) in listeners {
        runtime.spawn(accept(listener, role, Arc::clone(&world)));
    }
    let [relay, plc, well_known] = others;
    let servers = Servers {
        runtime: Some(runtime),
        relay,
        plc,
        well_known,
        dead: Mutex::new(dead),
    };
    (world, servers)
}

/// A socket with a port, which does not listen yet.
fn reserve(address: IpAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket for the practice network");
    socket
        .bind(SocketAddr::new(address, 0))
        .expect("a port for the practice network");
    socket
}

/// Lets a socket listen.
fn listen(runtime: &Runtime, socket: TcpSocket) -> TcpListener {
    let _inside = runtime.enter();
    socket
        .listen(BACKLOG)
        .expect("a listener for the practice network")
}

fn bind(runtime: &Runtime, address: IpAddr) -> TcpListener {
    listen(runtime, reserve(address))
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener
        .local_addr()
        .expect("the address of a practice server")
}

/// Begins the relay's log, so that there is something to replay. What happened when the accounts
/// were made is not told.
fn fill_log(world: &World) {
    let mut state = world.lock();
    let window = state.log.window();
    state.log = Log::new(window);
    for host in &mut state.hosts {
        host.log = Log::new(window);
    }
    let population = &world.population;
    let told: Vec<Source> = state
        .accounts
        .iter()
        .enumerate()
        .filter(|(number, account)| {
            account.standing.status().is_none() && population.size(*number) <= SMALL_REPO
        })
        .take(FIRST_EVENTS)
        .map(|(number, account)| Source::of(number, account))
        .collect();
    for source in told {
        state.tell_sync(
            source.number,
            &source.rev(),
            &commit_car(&source, population),
        );
    }
}

impl Servers {
    pub(super) fn relay_url(&self) -> String {
        format!("http://{}", self.relay)
    }

    pub(super) fn plc_url(&self) -> String {
        format!("http://{}", self.plc)
    }

    pub(super) fn well_known_url(&self) -> String {
        format!("http://{}", self.well_known)
    }

    /// See [`super::Network::set_faults`].
    pub(super) fn set_faults(&self, world: &Arc<World>, on: &[Fault]) {
        let mut on = on.to_vec();
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        if !on.contains(&Fault::DeadHost) {
            if let (Some((host, socket)), Some(runtime)) = (dead.take(), &self.runtime) {
                let listener = listen(runtime, socket);
                runtime.spawn(accept(listener, Role::Hosts(vec![host]), Arc::clone(world)));
            }
        } else if dead.is_none() {
            on.retain(|fault| *fault != Fault::DeadHost);
        }
        let mut state = world.lock();
        let was_https = world.switches.is_on(Fault::TlsFailure);
        world.switches.set(&on);
        if was_https == on.contains(&Fault::TlsFailure) {
            return;
        }
        // The URL of that host is another one now, which its accounts' documents have to say.
        let hosts = state
            .hosts
            .iter()
            .filter(|host| host.fault == Some(Fault::TlsFailure));
        let members: Vec<usize> = hosts
            .flat_map(|host| host.members.iter().copied())
            .collect();
        for number in members {
            state.note_operation(number);
            state.tell_identity(number);
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, role: Role, world: Arc<World>) {
    loop {
        // Short of files, for instance.
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let (role, world) = (role.clone(), Arc::clone(&world));
        tokio::spawn(async move { drop(serve(stream, peer.ip(), &role, &world).await) });
    }
}

/// Requests of one connection, one after the other.
async fn serve(
    mut stream: TcpStream,
    client: IpAddr,
    role: &Role,
    world: &World,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = request::read(&mut stream, &mut buffer).await? {
        let answer = match role {
            Role::Hosts(hosts) if request.path == subscribe::SUBSCRIBE => {
                let teller = host_of(world, hosts, &request).map(|(host, ..)| Teller::Host(host));
                return subscribe::serve(stream, world, teller, &request, buffer).await;
            }
            Role::Hosts(hosts) => {
                if !serve_host(&mut stream, client, hosts, world, &request).await? {
                    break;
                }
                continue;
            }
            Role::Relay if request.path == subscribe::SUBSCRIBE => {
                let teller = Some(Teller::Relay);
                return subscribe::serve(stream, world, teller, &request, buffer).await;
            }
            Role::Relay => block_in_place(|| relay::answer(world, &request)),
            Role::Plc => block_in_place(|| plc::answer(world, &request)),
            Role::WellKnown => {
                let Some(answer) = plc::well_known(world, &request) else {
                    answer::hold(&mut stream).await;
                    break;
                };
                answer
            }
        };
        if !answer::write(&mut stream, &answer, request.takes_gzip, "").await? {
            break;
        }
    }
    Ok(())
}

/// One request to a PDS. Tells whether the connection goes on.
async fn serve_host(
    stream: &mut TcpStream,
    client: IpAddr,
    hosts: &[usize],
    world: &World,
    request: &Request,
) -> std::io::Result<bool> {
    let Some((host, counting, fault)) = host_of(world, hosts, request) else {
        let answer = Answer::refusal(404, "NotFound", "no such host here");
        return answer::write(stream, &answer, false, "").await;
    };
    let (limit, meter) = (world.limit(counting), &world.meters[host]);
    let announces = limit.is_some() && counting == Counting::Announced;
    let verdict = meter.take(
        client,
        limit,
        announces,
        window(limit.or(world.settings.limit)),
    );
    if request.has_credentials {
        meter.note_credentials();
    }
    let is_get_repo = request.path == pds::GET_REPO;
    if is_get_repo {
        world.delay(|delays| delays.repos).await;
    } else if request.path == lists::LIST_REPOS {
        world.delay(|delays| delays.lists).await;
    }
    if fault == Some(Fault::StallingHost) {
        answer::hold(stream).await;
        return Ok(false);
    }
    let reply = if verdict.is_refused {
        let answer = Answer::refusal(429, "RateLimitExceeded", "Rate Limit Exceeded");
        pds::Reply {
            answer,
            gives: None,
        }
    } else if fault == Some(Fault::TlsFailure) {
        let answer = Answer::Status(
            400,
            Vec::new(),
            "HTTP request sent to HTTPS port".to_owned(),
        );
        pds::Reply {
            answer,
            gives: None,
        }
    } else if fault == Some(Fault::EndlessHost) {
        let answer = Answer::Endless;
        pds::Reply {
            answer,
            gives: None,
        }
    } else {
        block_in_place(|| pds::answer(world, host, fault, request))
    };
    if is_get_repo {
        meter.note_get_repo(reply.gives);
    }
    let goes_on = if fault == Some(Fault::DrippingHost) {
        answer::write_slowly(stream, &reply.answer, &verdict.headers).await?
    } else {
        answer::write(stream, &reply.answer, request.takes_gzip, &verdict.headers).await?
    };
    if let Some(repo) = reply.gives {
        meter.note_given(repo);
    }
    Ok(goes_on)
}

/// The host that a request is for, how it counts, and the fault of it that is on.
fn host_of(
    world: &World,
    hosts: &[usize],
    request: &Request,
) -> Option<(usize, Counting, Option<Fault>)> {
    let state = world.lock();
    let is_meant =
        |host: &&usize| hosts.len() == 1 || state.hosts[**host].authority == request.host;
    let host = *hosts.iter().find(is_meant)?;
    let fault = state.hosts[host]
        .fault
        .filter(|fault| world.switches.is_on(*fault));
    Some((host, state.hosts[host].counting, fault))
}
