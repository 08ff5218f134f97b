package SyTest::Homeserver::Myelin;

use strict;
use warnings;
use 5.014;
use base qw( SyTest::Homeserver );

use Carp;
use Cwd ();
use File::Path qw( remove_tree make_path );
use File::Temp;

use Future::Utils qw( try_repeat );
use IO::Handle;
use JSON ();

use SyTest::HTTPClient;
use SyTest::Identity::Server;
use SyTest::SSL qw( ensure_ssl_key create_ssl_cert );

# The certificate of sytest's identity server is made out to nobody and signed by
# itself, and no client that checks certificates takes it. So the identity server
# gets one of sytest's own authority, for the name that it gives itself.
{
   my $listen = SyTest::Identity::Server->can( 'listen' );
   no warnings 'redefine';
   *SyTest::Identity::Server::listen = sub {
      my ( $self, %args ) = @_;
      state $directory = File::Temp->newdir;
      my ( $certificate, $key ) = ( "$directory/tls.crt", "$directory/tls.key" );
      if( !-e $certificate ) {
         ensure_ssl_key( $key );
         create_ssl_cert( $certificate, $key, "localhost" );
      }
      return $self->$listen( %args, SSL_cert_file => $certificate, SSL_key_file => $key );
   };
}

# What sytest needs of this class: server_name, federation_host,
# federation_port, public_baseurl, start (a Future), kill_and_await_finish (from
# ProcessManager). configure() has been handed smtp_server_config,
# recaptcha_config, cas_config and, for server 0 only, app_service_config_files
# before start() is called.

sub _init
{
   my $self = shift;
   my ( $args ) = @_;

   $self->{$_} = delete $args->{$_} for qw( binary room_version print_output );
   defined $self->{binary} or croak "Need a binary";

   $self->{paths} = {};
   $self->SUPER::_init( $args );

   my $idx = $self->{hs_index};
   $self->{ports} = {
      secure   => main::alloc_port( "myelin[$idx]" ),
      unsecure => main::alloc_port( "myelin[$idx].unsecure" ),
   };
}

# The port must be in the name: sytest's federation client connects to the
# server name itself, without .well-known or SRV.
sub server_name     { my $self = shift; "$self->{bind_host}:" . $self->secure_port }
sub federation_host { my $self = shift; $self->{bind_host} }
sub federation_port { my $self = shift; $self->secure_port }
sub secure_port     { my $self = shift; $self->{ports}{secure} }
sub unsecure_port   { my $self = shift; $self->{ports}{unsecure} }

sub public_baseurl
{
   my $self = shift;
   return "https://$self->{bind_host}:" . $self->secure_port;
}

sub start
{
   my $self = shift;

   my $hs_dir = $self->{hs_dir};
   my $output = $self->{output};

   # a clean slate, but for the TLS key, which is slow to make
   remove_tree( "$hs_dir/media_store" ) if -d "$hs_dir/media_store";
   make_path( "$hs_dir/media_store" );

   $self->{paths}{tls_key}  = "$hs_dir/tls.key";
   $self->{paths}{tls_cert} = "$hs_dir/tls.crt";
   ensure_ssl_key( $self->{paths}{tls_key} );
   create_ssl_cert( $self->{paths}{tls_cert}, $self->{paths}{tls_key}, $self->{bind_host} );

   my $db_url = $self->_recreate_database;

   $self->{paths}{config} = $self->write_file(
      "myelin.toml" => _to_toml( $self->_config( $db_url ) )
   );

   my @command = ( $self->{binary}, "--config", $self->{paths}{config} );
   my $idx = $self->{hs_index};
   $output->diag( "Starting myelin $idx: @command" );

   return $self->_start_process_and_await_connectable(
      setup => [
         env => {
            PATH           => $ENV{PATH},
            RUST_LOG       => $ENV{RUST_LOG} // "info",
            RUST_BACKTRACE => 1,
         },
      ],
      command      => \@command,
      connect_host => $self->{bind_host},
      connect_port => $self->secure_port,
      name         => "myelin-$idx",
   )->then( sub {
      $self->_await_versions;
   })->on_done( sub {
      $output->diag( "Started myelin $idx" );
   })->else( sub {
      die "Unable to start myelin $idx: $_[0]\n";
   });
}

# a TCP connection says only that something listens: also wait for a 200
sub _await_versions
{
   my $self = shift;

   my $http = SyTest::HTTPClient->new( uri_base => $self->public_baseurl );
   $self->add_child( $http );

   return ( try_repeat {
      $http->do_request( method => "GET", uri => "/_matrix/client/versions" )
      ->then( sub { Future->done( 1 ) } )
      ->else( sub {
         my ( $message ) = @_;
         main::delay( 0.2 )->then_fail( $message );
      } );
   } foreach => [ 1 .. 50 ], while => sub { !$_[0]->is_done } )
   ->on_ready( sub { $self->remove_child( $http ) } );
}

sub _on_output_line
{
   my $self = shift;
   my ( $proc_info, $line ) = @_;

   # keep everything in a file too: ProcessManager keeps the last 20 lines only
   $self->{log_fh} //= do {
      open my $fh, ">", "$self->{hs_dir}/myelin.log" or die "myelin.log: $!";
      $fh->autoflush( 1 );
      $fh;
   };
   $self->{log_fh}->print( "$line\n" );

   $proc_info->print_output = 1 if $self->{print_output};
   return $self->SUPER::_on_output_line( $proc_info, $line );
}

# Drops and creates the database; returns its URL. (Homeserver.pm's own
# _clear_db_pg knows no port and leaves types and functions behind.)
sub _recreate_database
{
   my $self = shift;

   require DBI;
   require DBD::Pg;

   my $host = $ENV{PGHOST}     // "127.0.0.1";
   my $port = $ENV{PGPORT}     // 5432;
   my $user = $ENV{PGUSER}     // "postgres";
   my $pass = $ENV{PGPASSWORD} // "";
   my $name = ( $ENV{MYELIN_SYTEST_DB} // "myelin_sytest" ) . "_" . $self->{hs_index};

   my $dbh = DBI->connect(
      "dbi:Pg:dbname=postgres;host=$host;port=$port", $user, $pass,
      { RaiseError => 1, PrintError => 0 },
   );
   $dbh->do( "SET client_min_messages = error" );
   $dbh->do( "DROP DATABASE IF EXISTS $name WITH (FORCE)" );
   $dbh->do( "CREATE DATABASE $name TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'" );
   $dbh->disconnect;

   my $auth = length $pass ? "$user:$pass" : $user;
   return "postgres://$auth\@$host:$port/$name";
}

sub _config
{
   my $self = shift;
   my ( $db_url ) = @_;

   my $hs_dir = $self->{hs_dir};

   return {
      server_name      => $self->server_name,
      public_baseurl   => $self->public_baseurl,
      data_dir         => $hs_dir,
      signing_key_path => "$hs_dir/signing.key",   # made by the server if missing

      # One TLS listener carries everything: sytest talks to all APIs on one port.
      listeners => [
         {
            bind            => $self->{bind_host},
            port            => 0+ $self->secure_port,
            surfaces        => [qw( client federation )],
            tls_certificate => $self->{paths}{tls_cert},
            tls_private_key => $self->{paths}{tls_key},
         },
         {
            bind     => $self->{bind_host},
            port     => 0+ $self->unsecure_port,
            surfaces => [qw( client federation metrics )],
         },
      ],

      # Servers of the tests are on this machine, with certificates of sytest's own authority.
      federation => {
         ca_files        => [ Cwd::abs_path( "keys/ca.crt" ) ],
         allow_addresses => [qw( 127.0.0.0/8 )],
         notaries        => [],
      },

      database => { url => $db_url, max_connections => 10 },

      registration => {
         enabled       => JSON::true,
         open          => JSON::true,      # the m.login.dummy flow alone must do
         shared_secret => "reg_secret",    # fixed in tests/10apidoc/01register.pl
         guests        => JSON::true,
      },

      # the cheapest that Argon2 has: about 1000 users are made
      password => { memory_kib => 8, iterations => 1, parallelism => 1 },

      rate_limits => { enabled => JSON::false },

      rooms => {
         self_destructing_messages => JSON::true,
         defined $self->{room_version} ? ( default_version => "$self->{room_version}" ) : (),
      },

      room_directory => { allow_without_auth => JSON::true },

      presence => { enabled => JSON::true },
   };
}

# A small TOML writer: hashes are tables, arrays of hashes are arrays of tables.
sub _to_toml
{
   my ( $config, @path ) = @_;

   my ( @plain, @tables );
   foreach my $key ( sort keys %$config ) {
      my $value = $config->{$key};
      my $is_tables = ref $value eq "HASH"
         || ( ref $value eq "ARRAY" && @$value && ref $value->[0] eq "HASH" );
      push @{ $is_tables ? \@tables : \@plain }, $key;
   }

   my $out = join "", map { "$_ = " . _toml_value( $config->{$_} ) . "\n" } @plain;
   foreach my $key ( @tables ) {
      my $value = $config->{$key};
      my $name = join ".", @path, $key;
      if( ref $value eq "HASH" ) {
         $out .= "\n[$name]\n" . _to_toml( $value, @path, $key );
      }
      else {
         $out .= "\n[[$name]]\n" . _to_toml( $_, @path, $key ) for @$value;
      }
   }
   return $out;
}

sub _toml_value
{
   my ( $value ) = @_;

   if( ref $value eq "ARRAY" ) {
      return "[" . join( ", ", map { _toml_value( $_ ) } @$value ) . "]";
   }
   if( JSON::is_bool( $value ) ) {
      return $value ? "true" : "false";
   }
   # numbers stay numbers: JSON knows how perl holds them
   return JSON->new->allow_nonref->encode( $value );
}

1;
