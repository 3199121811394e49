# Makes a bucket in SeaweedFS and a user who may use that bucket alone. Run again, it changes nothing.
#
# BUCKET, MASTER and FILER (host:port), STORE_ACCESS_KEY_ID and STORE_SECRET_ACCESS_KEY come from the environment.
set -eu

# The keys go in by standard input: arguments of a process can be read by others.
shell() {
  weed shell -master="$MASTER" -filer="$FILER" 2>&1
}

buckets=$(echo s3.bucket.list | shell)
if ! echo "$buckets" | grep -qw "$BUCKET"; then
  echo "s3.bucket.create -name $BUCKET" | shell
fi

# What the shell says of the user is dropped: it repeats the keys.
echo "s3.configure -user $BUCKET -access_key $STORE_ACCESS_KEY_ID -secret_key $STORE_SECRET_ACCESS_KEY \
-buckets $BUCKET -actions Read,Write,List,Tagging -apply" | shell >/dev/null

# The shell ends with status 0 whatever happened, so what is there now is looked at.
echo s3.bucket.list | shell | grep -qw "$BUCKET"
echo s3.configure | shell | grep -q "\"$STORE_ACCESS_KEY_ID\""
echo "bucket $BUCKET and its user are there"
