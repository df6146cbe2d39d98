# The five-minute tour of README.md, statement by statement, as a reader would type it.
use strict;
use warnings;

use ContactSync;
use FindBin;
use Test::More;

open my $file, '<:encoding(UTF-8)', "$FindBin::RealBin/../../README.md" or die "README.md: $!";
my $readme = do { local $/; <$file> };
my @blocks = $readme =~ /^```sql\n(.*?)^```$/gms;
cmp_ok(scalar @blocks, '>=', 8, 'the tour has statements');

my $node = start_node();
my $sandbox = start_sandbox();
my $url = $sandbox->url . "/mailingcore";

my $output = '';
foreach my $block (@blocks)
{
	# the reader's provider is the real one, ours is the sandbox
	$block =~ s/(provider 'mailingcore',)/$1 base_url '$url',/;
	my ($stdout, $stderr);
	my $code = $node->psql('postgres', $block, stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	my ($first) = $block =~ /^(\w+ \S+ ?\S*)/;
	is($code, 0, "$first ...") or diag $stderr;
	$output .= "$stdout\n";
}

like($output, qr/^POST\|\S+\/contacts\/bulk\|\{"contacts":\[\{"email":"jane\@example\.com"/m, 'the preview');
like($output, qr/^new\|\|1$/m, 'what the import would do');
like($output, qr/^mail\|customers\|idle\|0\|[34]\|1$/m, 'status before the row is mended; John may have been sent twice');
like($output, qr/^3\|invalid_email\|/m, 'the failure');

my %contacts = map { $_->{email} => $_ } @{ $sandbox->contacts('mailingcore') };
is_deeply([ sort keys %contacts ],
	[ 'amy@example.com', 'jane@example.com', 'john@example.com', 'mira@example.com', 'nobody@example.com' ],
	'all of them arrived');
is($contacts{'jane@example.com'}{attributes}{plan}, 'TEAM', 'as the mapping says');
is($contacts{'john@example.com'}{attributes}{plan}, 'PRO', 'with the newest value');

done_testing();
