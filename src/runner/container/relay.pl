# Listens at the first places and connects each caller to the last: unix:PATH or tcp:HOST:PORT.
use strict;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

$SIG{HUP} = 'IGNORE';
$SIG{CHLD} = 'IGNORE';
$SIG{PIPE} = 'IGNORE';

sub opened {
    my ($text, $listen) = @_;
    if ($text =~ /^unix:(.*)/s) {
        my $path = $1;
        return IO::Socket::UNIX->new(Peer => $path) unless $listen;
        unlink $path;
        my $server = IO::Socket::UNIX->new(Local => $path, Listen => 128) or die "$path: $!\n";
        chmod 0666, $path;
        return $server;
    }
    my ($host, $port) = $text =~ /^tcp:(.*):(\d+)$/ or die "$text is no place\n";
    return IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port) unless $listen;
    return IO::Socket::INET->new(LocalAddr => $host, LocalPort => $port, Listen => 128, ReuseAddr => 1)
        || die "$host:$port: $!\n";
}

sub copied {
    my ($near, $far) = @_;
    my $open = IO::Select->new($near, $far);
    while ($open->count) {
        for my $from ($open->can_read) {
            my $to = $from == $near ? $far : $near;
            my $read = sysread $from, my $piece, 65536;
            if (!$read) {
                $open->remove($from);
                shutdown $to, 1;
                next;
            }
            for (my $done = 0; $done < $read;) {
                my $wrote = syswrite $to, $piece, $read - $done, $done;
                return unless defined $wrote;
                $done += $wrote;
            }
        }
    }
}

my $to = pop @ARGV;
my $listening = IO::Select->new(map { opened($_, 1) } @ARGV);
# The job is over when its directory is gone.
my $kept = $ENV{RELAY_WHILE};
while (!$kept || -e $kept) {
    for my $server ($listening->can_read(30)) {
        my $near = $server->accept or next;
        my $child = fork;
        if (defined $child && !$child) {
            if (my $far = opened($to, 0)) { copied($near, $far); }
            exit 0;
        }
        close $near;
    }
}
