-- Every key is led by the user's id, so that a distributed PostgreSQL can keep a user's rows together; the directories
-- (by id, by number) are touched only when a conversation comes or goes, and when this process does not know it yet.
-- Texts that keys are made of have the collation "C": no upgrade of a system's libraries can disorder an index.

CREATE TABLE account (  -- how long a user's lists are, without counting
  user_id text COLLATE "C" PRIMARY KEY,
  listed bigint NOT NULL DEFAULT 0,
  archived bigint NOT NULL DEFAULT 0);

CREATE TABLE conversation (
  number bigint NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  project_id bigint NOT NULL DEFAULT 0,
  next_ticket bigint NOT NULL DEFAULT 1,
  next_position int NOT NULL DEFAULT 1,
  pending int NOT NULL DEFAULT 0,    -- turns that run or wait
  total int NOT NULL DEFAULT 0,      -- messages, the hidden ones and those of other branches too
  count int NOT NULL DEFAULT 0,      -- messages that are shown
  chosen int,                        -- position of the message that ends the shown branch, 0: none; NULL: the last one does
  is_draft boolean NOT NULL DEFAULT false,
  pinned boolean NOT NULL DEFAULT false,
  archived boolean NOT NULL DEFAULT false,
  deleted_at timestamptz,
  listed boolean GENERATED ALWAYS AS (deleted_at IS NULL AND (total > 0 OR NOT is_draft)) STORED,
  user_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  fields json NOT NULL DEFAULT '{}', -- what else can be set
  first text NOT NULL DEFAULT '',
  summary text NOT NULL DEFAULT '',
  title_words text NOT NULL DEFAULT '',  -- what a search looks at
  first_words text NOT NULL DEFAULT '',
  PRIMARY KEY (user_id, number)) WITH (fillfactor = 80);
CREATE INDEX conversation_list ON conversation (user_id, archived, pinned DESC, updated_at DESC, number DESC) WHERE listed;
CREATE INDEX conversation_project ON conversation (user_id, project_id) WHERE project_id <> 0;
CREATE INDEX conversation_latest ON conversation (updated_at);
CREATE INDEX conversation_deleted ON conversation (user_id, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX conversation_swept ON conversation (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE message (  -- its id is number << 20 | position
  number bigint NOT NULL,
  created_at timestamptz NOT NULL,
  position int NOT NULL,
  seq int NOT NULL,                  -- its place in the order of appending, from 0, without gaps
  parent int,                        -- position of the message that it follows, 0: none; NULL: the one before it
  hidden boolean NOT NULL DEFAULT false,
  user_id text COLLATE "C" NOT NULL,
  key text COLLATE "C",
  body json NOT NULL,                -- as text: what PostgreSQL's own texts cannot hold, a NUL, is an escape in JSON
  PRIMARY KEY (user_id, number, position),
  UNIQUE (user_id, number, seq));
CREATE INDEX message_shape ON message (user_id, number, seq) WHERE hidden OR parent IS NOT NULL;
CREATE INDEX message_key ON message (user_id, number, key, seq) WHERE key IS NOT NULL;

CREATE TABLE directory (id text COLLATE "C" PRIMARY KEY, user_id text COLLATE "C" NOT NULL, number bigint NOT NULL);
CREATE TABLE numbers (number bigint PRIMARY KEY, user_id text COLLATE "C" NOT NULL);
CREATE TABLE block (name text PRIMARY KEY, next bigint NOT NULL);  -- numbers are given in blocks, and never twice
INSERT INTO block VALUES ('conversation', 1), ('project', 1);

CREATE TABLE project (
  user_id text COLLATE "C" NOT NULL, id bigint NOT NULL, name text NOT NULL, created_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, id));
CREATE TABLE projects (id bigint PRIMARY KEY, user_id text COLLATE "C" NOT NULL);  -- also of those that are gone

CREATE TABLE shelf (user_id text COLLATE "C" PRIMARY KEY, version bigint NOT NULL DEFAULT 0, body json);

CREATE TABLE turn (  -- one that runs or waits; its row is its fence
  user_id text COLLATE "C" NOT NULL, number bigint NOT NULL, ticket bigint NOT NULL, turn_id text NOT NULL,
  node text NOT NULL, question int, reply int, stop boolean NOT NULL DEFAULT false, begun_at timestamptz,
  PRIMARY KEY (user_id, number, ticket));
CREATE INDEX turn_node ON turn (node);
CREATE TABLE node (id text PRIMARY KEY, seen_at timestamptz NOT NULL);
CREATE TABLE checkpoint (
  user_id text COLLATE "C" NOT NULL, number bigint NOT NULL, position int NOT NULL,
  at int NOT NULL,       -- characters before this piece
  reply json,            -- of the first piece: the message without its content
  piece bytea NOT NULL,  -- UTF-8
  PRIMARY KEY (user_id, number, position, at));

-- How long a user's lists are, kept by the one who changes a conversation.
CREATE FUNCTION count_listed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  who text; l int := 0; a int := 0;
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.listed THEN
    who := OLD.user_id; IF OLD.archived THEN a := a - 1; ELSE l := l - 1; END IF;
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.listed THEN
    who := NEW.user_id; IF NEW.archived THEN a := a + 1; ELSE l := l + 1; END IF;
  END IF;
  IF l <> 0 OR a <> 0 THEN
    INSERT INTO account AS t VALUES (who, l, a)
      ON CONFLICT (user_id) DO UPDATE SET listed = t.listed + l, archived = t.archived + a;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER conversation_counted AFTER INSERT OR DELETE ON conversation
  FOR EACH ROW EXECUTE FUNCTION count_listed();
CREATE TRIGGER conversation_recounted AFTER UPDATE ON conversation
  FOR EACH ROW WHEN (OLD.listed <> NEW.listed OR OLD.archived <> NEW.archived) EXECUTE FUNCTION count_listed();

-- Append messages in one step. Of each: its position (0: the next one), time (NULL: now) and so on. `stamp` is the time
-- of who calls; `spare` positions stay free; f, fw and s are what the new messages give to lists. With a key `k` that
-- a message has that is not older than `oldest` nothing is stored, and this message's position comes back.
CREATE FUNCTION append_1(u text, n bigint, positions int[], times timestamptz[], hiddens boolean[], keys text[],
    bodies text[], stamp timestamptz, spare int, f text, fw text, s text, k text, oldest timestamptz)
  RETURNS TABLE (p int, t timestamptz, up int, is_repeat boolean, c conversation) LANGUAGE plpgsql AS $$
DECLARE
  wanted int; following int; fresh int; latest timestamptz;
BEGIN
  SELECT * INTO c FROM conversation WHERE user_id = u AND number = n AND deleted_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  IF k IS NOT NULL THEN
    SELECT m.position, m.created_at INTO p, t FROM message m WHERE m.user_id = u AND m.number = n AND m.key = k
      ORDER BY m.seq DESC LIMIT 1;
    IF FOUND AND t >= oldest THEN
      is_repeat := true; RETURN NEXT; RETURN;
    END IF;
  END IF;
  is_repeat := false;
  up := c.chosen;
  IF stamp <= c.updated_at AND c.updated_at < stamp + interval '1 day' THEN
    stamp := c.updated_at + interval '1 microsecond';
  END IF;
  SELECT count(*) FILTER (WHERE x = 0) INTO wanted FROM unnest(positions) x;
  IF c.next_position + wanted + spare - 1 > 1048575 THEN RAISE EXCEPTION 'full' USING ERRCODE = 'SA001'; END IF;
  following := c.next_position;
  SELECT count(*) FILTER (WHERE x IS NULL), greatest(c.updated_at, max(x)) INTO fresh, latest FROM unnest(times) x;
  IF fresh > 0 THEN latest := greatest(latest, stamp + (fresh - 1) * interval '1 microsecond'); END IF;
  UPDATE conversation SET next_position = next_position + wanted + spare, total = total + cardinality(positions),
      count = count + (SELECT count(*) FROM unnest(hiddens) x WHERE NOT x), chosen = NULL, updated_at = latest,
      first_words = CASE WHEN first = '' THEN fw ELSE first_words END,
      first = CASE WHEN first = '' THEN f ELSE first END, summary = coalesce(s, summary)
    WHERE user_id = u AND number = n RETURNING * INTO c;
  FOR i IN 1..cardinality(positions) LOOP
    IF positions[i] = 0 THEN
      p := following; following := following + 1;
    ELSIF positions[i] >= c.next_position - wanted - spare THEN
      RAISE EXCEPTION 'not reserved' USING ERRCODE = 'SA002';
    ELSE
      p := positions[i];
      DELETE FROM checkpoint x WHERE x.user_id = u AND x.number = n AND x.position = p;
    END IF;
    IF times[i] IS NULL THEN
      t := stamp; stamp := stamp + interval '1 microsecond';
    ELSE
      t := times[i];
    END IF;
    INSERT INTO message (user_id, number, position, seq, created_at, parent, hidden, key, body)
      VALUES (u, n, p, c.total - cardinality(positions) + i - 1, t, up, hiddens[i], keys[i], bodies[i]::json);
    RETURN NEXT;
    up := NULL;
  END LOOP;
END $$;
