
=head1 NAME

ContactSync - functions for TAP tests: start a server with the worker, start the sandbox, wait for conditions

=head1 SYNOPSIS

  use ContactSync;
  use Test::More;

  my $sandbox = start_sandbox(clock_speed => 10);
  my $node = start_node('contactsync.clock_speed' => 10);
  create_server($node, $sandbox, 'owlat');             # the server is called owlat

  $sandbox->fault('owlat', { times => 1, action => { status => 503 } });
  $node->safe_psql('postgres', q{SELECT contactsync_upsert('owlat', '{"email": "jane@example.com"}')});
  $sandbox->wait_for_contacts('owlat', 1);
  is($sandbox->contacts('owlat')->[0]{email}, 'jane@example.com', 'arrived after a 503');

=head1 DESCRIPTION

Tests wait for conditions, never for fixed times: with C<< $node->poll_query_until >>, C<< $node->wait_for_log >>,
C<wait_for> or a method of the sandbox. All of these time out after PG_TEST_TIMEOUT_DEFAULT seconds.

=cut

package ContactSync;

use strict;
use warnings;

use Exporter 'import';
use File::Spec;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More ();
use Time::HiRes qw(sleep time);

# Connect as postgres, whoever runs the tests.
$ENV{PGUSER} = 'postgres';

our @EXPORT = qw(start_node start_sandbox create_server watch_customers insert_customers crash_worker start_standby flush_wal wait_for write_file quote_literal);

# The encoding of the databases (see --encoding of test/run.sh). What the tests send and receive is UTF-8; this is not set in
# PGCLIENTENCODING, because the server would take that as its default, and so would the worker.
my $encoding = $ENV{ENCODING} || 'UTF8';
$ENV{PGOPTIONS} = '-c client_encoding=UTF8' if $encoding ne 'UTF8';

# The path of each provider in the sandbox, and the options and keys of its default account.
my %provider = (
	caramel => {
		path => '/caramel/mcp',
		server => { business_id => 'bus_01h7m9k0aabcdefghj1234567' },
		mapping => { access_token => 'caramel_sandbox' }
	},
	owlat => {
		path => '/owlat',
		mapping => { api_key => 'lm_live_sandbox0000000000000000000000000' }
	},
	spotzee => {
		path => '/spotzee/api/client',
		mapping => { api_key => 'sk_sandbox' }
	},
	mailingcore => {
		path => '/mailingcore',
		server => { tenant_id => 'clx_sandbox' },
		mapping => { api_key => 'mc_test_sandbox' }
	},
	campaignlark => {
		path => '/campaignlark/v1',
		# avoid a request when a watch is created, which would be counted
		server => { check_fields => 'false' },
		mapping => { api_key => 'cl_sandbox' }
	});

=head1 FUNCTIONS

=over

=item start_node(%settings)

Start a server with the worker; %settings are those of postgresql.conf. Names that begin with a dash are not settings:
-name is the name of the node (default "main"), -encoding that of its databases, for a test with characters that not every
encoding has, and all others are passed to C<init> of PostgreSQL::Test::Cluster, as in C<< -allows_streaming => 'logical' >>.

=cut

sub start_node
{
	my %settings = (
		'shared_preload_libraries' => 'contactsync',
		'contactsync.launcher_naptime' => '1s',
		# where the sandbox is
		'contactsync.allowed_networks' => '127.0.0.0/8',
		'shared_buffers' => '16MB',
		'max_connections' => 20,
		'max_worker_processes' => 16,
		# statements contain secrets, which must not be in the log
		'log_statement' => 'none',
		@_);
	my %init;

	foreach my $name (grep { /^-/ } keys %settings)
	{
		$init{ substr($name, 1) } = delete $settings{$name};
	}

	my $node = PostgreSQL::Test::Cluster->new(delete $init{name} // 'main');
	$node->init(extra => [ '--encoding=' . (delete $init{encoding} // $encoding), '--no-locale', '--username=postgres' ], %init);
	$node->append_conf('postgresql.conf',
		join('', map { "$_ = " . quote_literal($settings{$_}) . "\n" } sort keys %settings));
	$node->start;
	return $node;
}

=item start_sandbox(%options)

Start the simulator of the providers, and return an object with the methods below. Options are those of its command
line, as in C<< clock_speed => 10, tls => 1 >>. The sandbox ends with the test.

=cut

sub start_sandbox
{
	return ContactSync::Sandbox->start(@_);
}

=item create_server($node, $sandbox, $provider, %param)

Create the extension if it does not exist, a server for the provider in the sandbox, and a user mapping with a valid
key. %param may contain name (of the server; by default that of the provider), dbname, and further options in
C<< server => {...} >> and C<< mapping => {...} >>, where undef omits a default option. With C<< account => 'x' >>,
create and use a separate account of that name, which has no rate limits; it also becomes the default name of the
server. With C<< role => 'x' >> the server and the mapping belong to that role, which must exist and not be a superuser.
Return the name.

=cut

sub create_server
{
	my ($node, $sandbox, $provider, %param) = @_;
	my $preset = $provider{$provider} or die "unknown provider $provider";
	my $name = $param{name} // $param{account} // $provider;

	$preset = create_account($sandbox, $provider, $param{account}) if defined $param{account};
	my $server = options(
		provider => $provider,
		base_url => $sandbox->url . $preset->{path},
		$sandbox->{certificate} ? (ca_file => $sandbox->{certificate}) : (),
		%{ $preset->{server} // {} },
		%{ $param{server} // {} });
	my $mapping = options(%{ $preset->{mapping} }, %{ $param{mapping} // {} });
	my $as_role = defined $param{role}
		? qq{GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO "$param{role}"; SET SESSION AUTHORIZATION "$param{role}";}
		: '';

	$node->safe_psql(
		$param{dbname} // 'postgres', qq{
		SET client_min_messages = warning;
		CREATE EXTENSION IF NOT EXISTS contactsync;
		$as_role
		CREATE SERVER "$name" FOREIGN DATA WRAPPER contactsync $server;
		CREATE USER MAPPING FOR CURRENT_USER SERVER "$name" $mapping;
	});
	return $name;
}

# Create an account without limits, whose key has the privileges of the default key; return the options for a server.
sub create_account
{
	my ($sandbox, $provider, $account) = @_;
	my $preset = $provider{$provider};
	my $config = $sandbox->call('GET', "$provider/config");
	my ($grant) = values %{ $config->{keys} };
	my %mapping = map { $_ => $preset->{mapping}{$_} =~ s/sandbox/$account/r } keys %{ $preset->{mapping} };

	$sandbox->config(
		$provider,
		{
			account => $account,
			keys => { map { $_ => $grant } values %mapping },
			limits => { map { $_ => undef } keys %{ $config->{limits} } }
		});
	return {
		path => $preset->{path},
		server => { map { $_ => $_ eq 'tenant_id' ? $account : $preset->{server}{$_} } keys %{ $preset->{server} // {} } },
		mapping => \%mapping
	};
}

# Return an OPTIONS clause, or an empty string.
sub options
{
	my %option = @_;
	my @list = map { "$_ " . quote_literal($option{$_}) } grep { defined $option{$_} } sort keys %option;

	return @list ? 'OPTIONS (' . join(', ', @list) . ')' : '';
}

=item watch_customers($node, $sandbox, $provider, $name, %server), insert_customers($node, $name, $from, $to)

Create a server with these options and a table, both with this name, and watch the table in the simplest way that the provider
allows; insert rows with these numbers into it, which become their addresses.

=cut

sub watch_customers
{
	my ($node, $sandbox, $provider, $name, %server) = @_;
	my $mapping = {
		campaignlark => '{"email": "email", "opt_in": "consent"}',
		spotzee => '{"external_id": "id", "email": "email"}'
	}->{$provider} // '{"email": "email"}';

	create_server($node, $sandbox, $provider, account => $name, server => \%server);
	$node->safe_psql(
		'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, consent boolean DEFAULT true);
		SELECT contactsync_watch('$name', '$name', '$mapping')});
	return;
}

sub insert_customers
{
	my ($node, $name, $from, $to) = @_;

	$node->safe_psql('postgres', "INSERT INTO $name SELECT n, n || '\@example.com' FROM generate_series($from, $to) n");
	return;
}

=item crash_worker($node, $dbname)

Kill the worker of a database, and wait until the server, which must have restart_after_crash, has restarted and runs another
one. Returns the time of the crash.

=cut

sub crash_worker
{
	my ($node, $dbname) = @_;
	my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND datname = current_database()};

	$node->poll_query_until($dbname, "SELECT count(*) = 1 FROM ($worker) w") or die 'timed out waiting for the worker';
	my $pid = $node->safe_psql($dbname, $worker);
	my $crashed = time();
	kill 'KILL', $pid;
	$node->poll_query_until($dbname, "SELECT pid <> $pid FROM ($worker) w") or die 'timed out waiting for another worker';
	return $crashed;
}

=item start_standby($primary, $name)

Start a standby of the primary's backup C<base>, and return it when it has all that the primary has committed.

=cut

sub start_standby
{
	my ($primary, $name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->start;
	$primary->wait_for_catchup($standby);
	return $standby;
}

=item flush_wal($node)

Write to disk what has been committed, including transactions that did not wait for it.

=cut

sub flush_wal
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'flush', '')});
	return;
}

=item wait_for($what, $condition)

Call a function until it returns a true value, and return that. If it times out, die with a message that says what the
test was waiting for.

=cut

sub wait_for
{
	my ($what, $condition) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (1)
	{
		my $result = $condition->();
		return $result if $result;
		die "timed out waiting for $what" if time() > $end;
		sleep(0.02);
	}
}

=item $node->poll_query_until($dbname, $query, $expected)

As in PostgreSQL::Test::Cluster, but also for a server that restarts. The original passes the query to psql on its
standard input, and dies of a broken pipe if psql cannot connect and exits before it has read the query.

=cut

sub poll_query_until
{
	my ($node, $dbname, $query, $expected) = @_;
	my $end = time() + $PostgreSQL::Test::Utils::timeout_default;
	my @psql = ('psql', '-XAt', '-d', $node->connstr($dbname), '-c', $query);
	my ($stdout, $stderr);

	$expected //= 't';
	while (1)
	{
		IPC::Run::run(\@psql, '<', File::Spec->devnull, '>', \$stdout, '2>', \$stderr);
		chomp($stdout, $stderr);
		return 1 if $stdout eq $expected && $stderr eq '';
		last if time() > $end;
		sleep(0.1);
	}
	Test::More::diag("timed out waiting for \"$expected\" from:\n$query\nthe last answer was:\n$stdout\n$stderr");
	return 0;
}

{
	no warnings 'redefine';
	*PostgreSQL::Test::Cluster::poll_query_until = \&poll_query_until;
}

=item write_file($file, $text)

Write a file, and return its name.

=cut

sub write_file
{
	my ($file, $text) = @_;

	open my $handle, '>', $file or die "$file: $!";
	print $handle $text;
	close $handle;
	return $file;
}

=item quote_literal($text)

=back

=cut

sub quote_literal
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

package ContactSync::Disk;

use strict;
use warnings;

use Cwd 'realpath';
use File::Basename;
use PostgreSQL::Test::Utils;

=head1 A DISK THAT FORGETS

What it is, test/disk/forgetful.c and forgetful.py explain.

=over

=item ContactSync::Disk->new($node)

Take everything in the data directory of a node for durable; the node must be stopped, and is to be started by C<start> then.

=cut

sub new
{
	my ($class, $node) = @_;
	my $self = bless { node => $node, library => $node->basedir . '/forgetful.so', shadow => $node->basedir . '/shadow' }, $class;

	$self->run('build', $self->{library});
	$self->run('format', $node->data_dir, $self->{shadow});
	return $self;
}

sub run
{
	my ($self, @command) = @_;

	PostgreSQL::Test::Utils::system_or_bail($ENV{PYTHON} // '/usr/bin/python3', dirname(__FILE__) . '/../disk/forgetful.py', @command);
	return;
}

=item start()

=cut

sub start
{
	my ($self) = @_;
	local @ENV{qw(LD_PRELOAD FORGETFUL_DATA FORGETFUL_SHADOW)} =
	  ($self->{library}, realpath($self->{node}->data_dir), realpath($self->{shadow}));

	$self->{node}->start;
	return;
}

=item cut_power(@options)

End the node as if the power had failed; @options are those of "forgetful.py cut".

=cut

sub cut_power
{
	my ($self, @options) = @_;

	$self->run('cut', $self->{node}->data_dir, $self->{shadow}, @options);
	$self->{node}->_update_pid(0);
	return;
}

=item fill(), make_room()

Keep files of relations from growing, and let them grow again.

=back

=cut

sub fill { my ($self) = @_; PostgreSQL::Test::Utils::append_to_file("$self->{shadow}/full", ''); return; }
sub make_room { my ($self) = @_; unlink("$self->{shadow}/full"); return; }

package ContactSync::Sandbox;

use strict;
use warnings;

use File::Basename;
use HTTP::Tiny;
use IPC::Open2;
use JSON::PP;

=head1 METHODS OF THE SANDBOX

Each is a call of the control interface described in test/sandbox/README.md; %query are its query parameters.

=over

=item url()

=cut

sub start
{
	my ($class, %option) = @_;
	my $self = bless {}, $class;
	my @arguments;

	foreach my $name (sort keys %option)
	{
		(my $switch = "--$name") =~ tr/_/-/;
		push @arguments, $switch, $name =~ /^(tls|fast|fast_email)$/ ? () : $option{$name};
	}

	# The sandbox exits when its standard input is closed, however this process ends.
	$self->{pid} = open2(
		my $output, $self->{stdin},
		$ENV{PYTHON} // '/usr/bin/python3', dirname(__FILE__) . '/../sandbox',
		'--exit-with-stdin', @arguments);
	(readline($output) // '') =~ /^listening on (\S+)/ or die "the sandbox did not start";
	$self->{url} = ($option{tls} ? 'https' : 'http') . "://$1";
	if ($option{tls})
	{
		(readline($output) // '') =~ /^certificate (.+)/ or die "the sandbox named no certificate";
		$self->{certificate} = $1;
	}
	$self->{http} = HTTP::Tiny->new(
		timeout => $PostgreSQL::Test::Utils::timeout_default,
		# its certificate may be a bad one, see certificate()
		verify_SSL => 0,
		proxy => undef,
		http_proxy => undef,
		https_proxy => undef);
	return $self;
}

sub url { return $_[0]->{url}; }

=item stop()

Stop the sandbox, as if the providers were down: connections are refused from then on.

=cut

sub stop
{
	my ($self) = @_;
	local $?;    # keep the exit status of the test

	close $self->{stdin};
	waitpid $self->{pid}, 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	$self->stop if $self->{stdin} && defined fileno($self->{stdin});
	return;
}

=item contacts($provider, %query), events(...), count(...), journal(...)

=cut

sub contacts { my ($self, $provider, %query) = @_; return $self->call('GET', "$provider/contacts", undef, %query); }
sub events { my ($self, $provider, %query) = @_; return $self->call('GET', "$provider/events", undef, %query); }
sub count { my ($self, $provider, %query) = @_; return $self->call('GET', "$provider/count", undef, %query); }
sub journal { my ($self, $provider, %query) = @_; return $self->call('GET', "$provider/journal", undef, %query); }

=item fault($provider, {...}), faults($provider), clear_faults($provider), config($provider, {...}), reset()

=cut

sub fault { my ($self, $provider, $script) = @_; return $self->call('POST', "$provider/fault", $script); }
sub faults { my ($self, $provider) = @_; return $self->call('GET', "$provider/fault"); }
sub clear_faults { my ($self, $provider, %query) = @_; return $self->call('DELETE', "$provider/fault", undef, %query); }
sub config { my ($self, $provider, $changes) = @_; return $self->call('POST', "$provider/config", $changes); }
sub reset { my ($self) = @_; return $self->call('POST', 'reset'); }

=item certificate(%of)

With TLS: have new connections get another certificate; C<< expired => 1 >>, C<< host => 'elsewhere.example' >>, or a good one.

=cut

sub certificate
{
	my ($self, %of) = @_;

	$of{expired} = \1 if $of{expired};
	return $self->call('POST', 'certificate', \%of);
}

=item wait_for_contacts($provider, $n, %query)

Wait until the provider has at least that many contacts.

=cut

sub wait_for_contacts
{
	my ($self, $provider, $n, %query) = @_;

	return ContactSync::wait_for("$n contacts at $provider",
		sub { $self->count($provider, %query)->{contacts} >= $n });
}

=item wait_for_journal($provider, $condition, %query)

Wait until a function, which gets the entries of the journal, oldest first, returns a true value, and return that.

=cut

sub wait_for_journal
{
	my ($self, $provider, $condition, %query) = @_;

	return ContactSync::wait_for("a journal entry at $provider",
		sub { $condition->(@{ $self->journal($provider, %query) }) });
}

=item call($method, $path, $document, %query)

Make any call of the control interface; die if it is refused.

=item text($method, $path, $document, %query)

The same, but return the text of the answer: useful for many contacts, which a server parses faster than Perl.

=back

=cut

sub call { my ($self, @call) = @_; return decode_json($self->text(@call)); }

sub text
{
	my ($self, $method, $path, $document, %query) = @_;
	my $url = "$self->{url}/control/$path";

	$url .= '?' . $self->{http}->www_form_urlencode(\%query) if %query;
	my $response = $self->{http}->request(
		$method, $url,
		defined $document
		? { headers => { 'Content-Type' => 'application/json' }, content => encode_json($document) }
		: {});
	die "$method $url: $response->{status} $response->{content}" unless $response->{success};
	return $response->{content};
}

1;
