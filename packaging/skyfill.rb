# A Homebrew formula, for a tap. Untested: it was written where no macOS was at hand. The checksum
# is that of the release's source archive.
class Skyfill < Formula
  desc "Fills the PostgreSQL database of a Bluesky AppView from the AT Protocol network"
  homepage "https://github.com/skyfill/skyfill"
  url "https://github.com/skyfill/skyfill/archive/refs/tags/v0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build
  depends_on "postgresql@17" => :recommended

  def install
    system "cargo", "install", *std_cargo_args(path: "crates/skyfill")
    generate_completions_from_executable(bin/"skyfill", "completions")
    system bin/"skyfill", "man-pages", "man"
    man1.install Dir["man/*.1"]
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/skyfill --version")
  end
end
