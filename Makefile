# The commands of the project. Everything they do is in scripts/.

# The oldest toolchain that is tested.
msrv := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint doc deny msrv bench chaos machines fuzz conformance devnet export-check reference archive deb image \
        packages-test picture

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

quickstart: ## From nothing to tables: build skyfill and load repos into a private PostgreSQL
	@scripts/quickstart.sh

test: ## Run every test; installs what is missing
	@scripts/test.sh

lint: doc deny ## Check format, lints, API docs, prose and links, licenses
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	scripts/check-docs.pl

doc: ## Build the API docs; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps --all-features --locked

deny: ## Check licenses, bans and sources of the dependencies with cargo-deny
	@scripts/deny.sh

msrv: ## Check with the oldest tested toolchain (rust-version in Cargo.toml)
	cargo +$(msrv) check --workspace --all-targets --all-features --locked --target-dir target/msrv

bench: ## Run the benchmarks; the report goes to stdout
	@scripts/bench.sh

chaos: ## Kill skyfill and PostgreSQL 200 times (SKYFILL_CHAOS_KILLS, SKYFILL_CHAOS_SEED)
	@scripts/chaos.sh

machines: ## Test workers and a NATS cluster on machines of their own (network namespaces; needs root)
	@scripts/machines.sh

fuzz: ## Run every fuzz target for ten minutes
	@scripts/fuzz.sh

conformance: ## Compare with the official indexer from npm, row by row (official=VERSION: another one)
	@scripts/conformance.sh $(if $(official),--official $(official))

devnet: ## Follow the official dev network from npm, live, and compare with the official indexer
	@scripts/devnet.sh

export-check: ## Have DuckDB and polars, from PyPI, read what skyfill exports and what tee writes
	@scripts/export-check.sh

reference: ## Generate docs/reference/commands.md from the definitions of the arguments
	cargo run -q -p skyfill --all-features --locked -- reference > docs/reference/commands.tmp
	mv docs/reference/commands.tmp docs/reference/commands.md

archive: ## Package: a static Linux binary with man pages and completions
	@scripts/package.sh archive

deb: ## Package: the same for Debian, with a systemd unit
	@scripts/package.sh deb

image: ## Package: a container image (podman, buildah or docker)
	@scripts/package.sh image

packages-test: ## Try the packages in new roots, as root on Debian
	@scripts/packages-test.sh

picture: ## Draw the pictures of the README from a run in tmux
	@scripts/picture.sh
