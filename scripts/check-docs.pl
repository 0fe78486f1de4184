#!/usr/bin/env perl
# Checks the words of the project: relative links and anchors in *.md resolve, source files that
# *.md names in backticks exist, and prose in *.md and comments in *.rs, *.sh and *.sql end before
# column 100. Tables, code blocks and words that cannot be broken are exempt.
use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));
use Cwd qw(abs_path);

my $root = abs_path($0);
$root =~ s{/scripts/[^/]*$}{};
chdir $root or die "$root: $!";
my $width = 100;
my @files = map { chomp; s{^\./}{}r }
  `find . -type d \\( -name target -o -name .git -o -name node_modules -o -name quickstart -o -name skyfill-data \\) -prune -o -type f -print`;
my %exists = map { $_ => 1 } @files;
my @faults;

sub fault { push @faults, join ':', @_ }

sub lines_of {
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!";
    my @lines = <$in>;
    chomp @lines;
    return @lines;
}

# Whether a line could have been broken before column 100.
sub too_long {
    my ($line, $marker) = @_;
    return 0 if length($line) <= $width;
    (my $text = $line) =~ s/^\s*$marker\s*//;
    return $text =~ /\S\s+\S/;
}

# The anchor that forges make of a heading.
sub anchor {
    my ($heading) = @_;
    my $text = lc $heading;
    $text =~ s/[^\w\s-]//g;
    $text =~ s/\s/-/g;
    return $text;
}

my %anchors;

sub anchors_of {
    my ($file) = @_;
    return $anchors{$file} //= do {
        my ($fenced, %found) = (0);
        for (lines_of($file)) {
            $fenced = !$fenced if /^\s*```/;
            $found{ anchor($1) } = 1 if !$fenced && /^#+\s+(.*)/;
        }
        \%found;
    };
}

sub check_link {
    my ($file, $number, $link) = @_;
    return if $link =~ m{^(?:https?|mailto):};
    my ($path, $fragment) = split /#/, $link, 2;
    my $folder = $file =~ s{[^/]*$}{}r;
    my $target = $path eq '' ? $file : "$folder$path";
    1 while $target =~ s{(^|/)(?!\.\./)[^/]+/\.\./}{$1};
    $target =~ s{/$}{};
    return fault($file, $number, " link to $link: there is no $target") unless -e $target;
    return unless defined $fragment && $target =~ /\.md$/;
    fault($file, $number, " link to $link: there is no such heading in $target")
      unless anchors_of($target)->{$fragment};
}

# Source files are named by the end of their path: `run/mod.rs`, `atrepo/src/car.rs`.
sub check_name {
    my ($file, $number, $name) = @_;
    return if $name =~ /^\.\./;
    return if grep { $_ eq $name || /\/\Q$name\E$/ } @files;
    fault($file, $number, " names $name, which does not exist");
}

for my $file (sort grep { /\.md$/ } @files) {
    my ($fenced, $number) = (0, 0);
    for my $line (lines_of($file)) {
        $number++;
        if ($line =~ /^\s*```/) { $fenced = !$fenced; next }
        next if $fenced || $line =~ /^    \S/;
        fault($file, $number, ' is longer than 100 columns')
          if $line !~ /^\s*\|/ && $file !~ m{^benchmarks/runs/} && too_long($line, '(?:[-*>]|\d+\.)?');
        (my $plain = $line) =~ s/`[^`]*`//g;
        check_link($file, $number, $1) while $plain =~ /\]\(([^)\s]+)\)/g;
        next if $file =~ m{^(?:CHANGELOG\.md$|benchmarks/runs/|crates/testbed/material/)};
        check_name($file, $number, $1) while $line =~ /`([\w.\/-]+\.(?:rs|sql|sh|pl))`/g;
    }
}

for my $file (sort grep { /\.(?:rs|sh|sql)$/ && !m{/(?:migrations|snapshots)/|^conformance/} } @files) {
    my $marker = $file =~ /\.rs$/ ? '//[/!]?' : $file =~ /\.sh$/ ? '#' : '--';
    my $number = 0;
    for my $line (lines_of($file)) {
        $number++;
        fault($file, $number, ' is a comment longer than 100 columns')
          if $line =~ /^\s*$marker/ && too_long($line, $marker);
    }
}

print "$_\n" for @faults;
exit(@faults ? 1 : 0);
