# The commands of the README. Everything they do is in scripts/.

.PHONY: quickstart test lint bench chaos fuzz conformance reference

quickstart: ## From nothing to tables
	@scripts/quickstart.sh

test: ## Every test
	@scripts/test.sh

lint: ## Format, lints, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --all-features check licenses bans sources; else echo "cargo-deny is not installed: licences, bans and sources were not checked"; fi

bench: ## The benchmark, report on stdout
	@scripts/bench.sh

chaos: ## 200 kills at random moments; SKYFILL_CHAOS_KILLS and SKYFILL_CHAOS_SEED change how many and which
	@scripts/chaos.sh

fuzz: ## Every fuzz target for ten minutes
	@scripts/fuzz.sh

conformance: ## The official indexer, from npm, as the judge of every row
	@scripts/conformance.sh

reference: ## docs/reference, from the definitions of the arguments
	cargo run -q -p skyfill -- reference > docs/reference/commands.md
